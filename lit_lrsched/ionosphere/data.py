"""The data of the worked example, which come with the package."""

from __future__ import annotations

from pathlib import Path

from lit_lrsched.csv_data.module import CSVDataModule
from lit_lrsched.csv_data.splitting import Split

_BUNDLED = Path(__file__).with_name("ionosphere.csv")


class IonosphereDataModule(CSVDataModule):
    """The UCI ionosphere data set, bundled: 351 radar returns, 34 features, label ``g`` (good) or ``b`` (bad).

    A :class:`CSVDataModule` with the file, its label column and ``g`` as the positive class filled in. Where the data
    comes from, and its licence: ``DATA.md`` beside this module.

    Args:
        batch_size: Rows in a batch, at least 1. The last batch of an epoch may be smaller.
        split: Fractions of the rows for training, validation and test, which sum to 1; or ``"ordered:200"``, the split
            of the 1989 paper: the first 200 rows train and the other 151 are the test and the validation rows both.
        seed: Chooses which rows fractions draw, at least 0. The same on every machine, whatever the global seed.
        stratify: Whether fractions divide each class by itself, each share right to a row. Otherwise, all rows as one.
        standardize: Whether to bring every feature to mean 0 and standard deviation 1 over the training rows. A
            feature that is constant there is only shifted.
        num_workers: Processes that load batches, at least 0. The data is in memory: 0 is fastest.

    Raises:
        InputError: In construction for an argument out of range; on first use for a split that leaves a part empty.

    >>> data = IonosphereDataModule()
    >>> loaders = data.train_dataloader(), data.val_dataloader(), data.test_dataloader(), data.predict_dataloader()
    >>> [len(loader.dataset) for loader in loaders]
    [246, 53, 52, 351]
    """

    def __init__(
        self,
        batch_size: int = 24,
        split: Split = (0.7, 0.15, 0.15),
        seed: int = 0,
        stratify: bool = True,
        standardize: bool = False,
        num_workers: int = 0,
    ) -> None:
        super().__init__(
            _BUNDLED,
            positive="g",
            header=False,
            batch_size=batch_size,
            split=split,
            seed=seed,
            stratify=stratify,
            standardize=standardize,
            num_workers=num_workers,
        )
        # Where the bundled file lies on this machine has no place in a checkpoint.
        known = ["path", "target", "positive", "header"]
        self.save_hyperparameters(ignore=known, logger=False)
        for name in known:
            self.hparams.pop(name, None)  # Lightning 2.6.0 keeps what the base class has saved
