"""One list registers a schedule, ``__all__`` of ``lit_lrsched.schedules``: whatever shows them all has every one."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from lit_lrsched import FromTorch, schedules
from lit_lrsched.schedules.core import Schedule
from lit_lrsched.schedules.examples import EXAMPLES
from tests.catalogue import CATALOGUE

ROOT = Path(__file__).resolve().parents[2]
SCHEDULES = {
    value
    for name in schedules.__all__
    if isinstance(value := getattr(schedules, name), type) and issubclass(value, Schedule) and value is not Schedule
}
NAMES = {schedule.__name__ for schedule in SCHEDULES}
WITHOUT_PICTURE = {"Custom"}  # it looks like whatever it carries


def subclasses(base: type) -> set[type]:
    return {base}.union(*(subclasses(child) for child in base.__subclasses__()))


def test_the_list_has_every_schedule_of_the_folder():
    schedules.load_all()
    found = {
        each
        for each in subclasses(Schedule)
        if each.__module__.startswith("lit_lrsched.schedules.")
        and not inspect.isabstract(each)
        and not each.__name__.startswith("_")
    }
    assert found == SCHEDULES


def test_the_catalogue_has_every_schedule():
    assert {type(schedule) for schedule in CATALOGUE.values()} == SCHEDULES


def test_the_gallery_has_every_schedule():
    assert {name: type(schedule).__name__ for name, schedule in EXAMPLES.items()} == {
        name: name for name in NAMES - WITHOUT_PICTURE
    }


def test_the_page_of_the_gallery_has_every_schedule_and_its_picture():
    page = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^## (\w+)$", page, flags=re.MULTILINE)) == sorted({*NAMES, FromTorch.__name__})
    pictures = re.findall(r"^!\[\w+\]\((img/gallery/\w+\.png)\)$", page, flags=re.MULTILINE)
    assert sorted(pictures) == sorted(f"img/gallery/{name}.png" for name in NAMES - WITHOUT_PICTURE)
    assert [picture for picture in pictures if not (ROOT / "docs" / picture).is_file()] == []


def test_no_schedule_has_a_concrete_parent():
    parents = {base for each in SCHEDULES for base in each.__mro__[1:] if issubclass(base, Schedule)}
    assert [parent for parent in parents if not inspect.isabstract(parent)] == []
