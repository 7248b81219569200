"""The pictures of the gallery: the example of every schedule. ``readme.py`` writes them."""

from __future__ import annotations

from matplotlib.figure import Figure

from lit_lrsched.plans.picture import gallery, thumbnail
from lit_lrsched.plans.plan import plan_of
from lit_lrsched.plans.view import View
from lit_lrsched.schedules.examples import EXAMPLES, HORIZON, LOSS


def pictures() -> dict[str, Figure]:
    """Returns all schedules in one picture, ``gallery.png``, and one picture for each."""
    views = {
        name: View.of(plan_of(schedule, HORIZON, metric=LOSS if name == "Plateau" else ()))
        for name, schedule in EXAMPLES.items()
    }
    return {
        "gallery.png": gallery(views, columns=6),
        **{f"gallery/{name}.png": thumbnail(view) for name, view in views.items()},
    }
