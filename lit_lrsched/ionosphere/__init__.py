"""The worked example: a small classifier of radar returns, and a data module for anybody's CSV."""

from lit_lrsched.ionosphere.data import CSVDataModule, IonosphereDataModule
from lit_lrsched.ionosphere.model import IonosphereClassifier

__all__ = ["CSVDataModule", "IonosphereClassifier", "IonosphereDataModule"]
