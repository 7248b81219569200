"""The data module: what it reads, how it splits, what it yields and what it refuses."""

from __future__ import annotations

import hashlib
import logging
import random
from operator import attrgetter, methodcaller
from pathlib import Path

import lightning
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonargparse import ArgumentParser
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.demos.boring_classes import BoringModel
from torch.utils.data import DataLoader, DistributedSampler, RandomSampler, SequentialSampler, TensorDataset

from lit_lrsched.csv_data.module import CSVDataModule
from lit_lrsched.csv_data.splitting import split_rows as _split_rows
from lit_lrsched.errors import InputError
from lit_lrsched.ionosphere import data as module
from lit_lrsched.ionosphere.data import IonosphereDataModule

repeatable = settings(derandomize=True, deadline=None, database=None)

# Ten rows whose first feature is their own number: a's in even rows, b's in odd ones.
TEN = "".join(f"{row},0.5,{'ab'[row % 2]}\n" for row in range(10))


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a file and hands back its bare name, so that messages can be compared whole."""
    monkeypatch.chdir(tmp_path)

    def write(content, name="f.csv"):
        Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return name

    return write


def loaders(data):
    return data.train_dataloader(), data.val_dataloader(), data.test_dataloader()


def row_numbers(data):
    return [loader.dataset.x[:, 0].int().tolist() for loader in loaders(data)]


def test_a_file_that_has_changed_is_read_anew(write):
    options = {"path": write(TEN), "standardize": False}
    before, again = (CSVDataModule(**options) for _ in range(2))
    assert before.predict_dataloader().dataset.x.equal(again.predict_dataloader().dataset.x)
    write(TEN.replace("0.5", "0.7"))
    assert CSVDataModule(**options).predict_dataloader().dataset.x[:, 1].tolist() == [pytest.approx(0.7)] * 10
    assert CSVDataModule(**options, positive="a").class_names == ("b", "a")
    assert CSVDataModule(**options).class_names == ("a", "b")


def refusal(*args, **kwargs):
    with pytest.raises(InputError) as caught:
        CSVDataModule(*args, **kwargs).prepare_data()
    message = str(caught.value)
    assert "\n" not in message
    return message


class TestBundledFile:
    here = Path(module.__file__).parent

    def test_is_the_one_that_its_attribution_describes(self):
        digest = hashlib.sha256((self.here / "ionosphere.csv").read_bytes()).hexdigest()
        attribution = (self.here / "DATA.md").read_text()
        for fact in (digest, "10.24432/C5W01B", "CC BY 4.0", "351", "225", "126"):
            assert fact in attribution

    def test_is_read_as_numpy_reads_it(self):
        cells = np.loadtxt(self.here / "ionosphere.csv", delimiter=",", dtype=str)
        x, y = map(torch.cat, zip(*IonosphereDataModule().predict_dataloader(), strict=True))
        assert x.dtype == y.dtype == torch.float32
        assert x.numpy().tolist() == cells[:, :-1].astype(np.float32).tolist()
        assert y.numpy().tolist() == (cells[:, -1:] == "g").astype(np.float32).tolist()
        assert y.sum() == 225

    def test_facts_are_public(self):
        data = IonosphereDataModule()
        assert data.num_features == 34
        assert data.class_names == ("b", "g")


class TestSplit:
    def test_golden_over_all_rows(self, write):
        # random.Random(0): .844 .758 .421 .259 .511 .405 .784 .303 .477 .583, so the rows in the order of their keys
        # are 3 7 5 2 8 4 | 9 1 | 6 0, cut after 6 and 8 of 10.
        data = CSVDataModule(write(TEN), split=(0.6, 0.2, 0.2), stratify=False)
        assert row_numbers(data) == [[2, 3, 4, 5, 7, 8], [1, 9], [0, 6]]

    def test_golden_within_each_class(self, write):
        # The same keys: even rows 2 8 4 | 6 | 0 and odd rows 3 7 5 | 9 | 1, cut after 3 and 4 of 5.
        data = CSVDataModule(write(TEN), split=(0.6, 0.2, 0.2))
        assert row_numbers(data) == [[2, 3, 4, 5, 7, 8], [6, 9], [0, 1]]

    def test_golden_of_the_bundled_file(self):
        # Exact shares: 225 g: 157.5 33.75 33.75; 126 b: 88.2 18.9 18.9; all 351: 245.7 52.65 52.65.
        # b first: 88 18 18 leaves 2 rows for the remainders .9 .9, so 88 19 19 and the parts are owed .2 -.1 -.1.
        # Then g: 157 33 33 leaves 2 for .5+.2 .75-.1 .75-.1, so 158 34 33.
        parts = [loader.dataset.y for loader in loaders(IonosphereDataModule())]
        assert [(int((y == 0).sum()), int(y.sum())) for y in parts] == [(88, 158), (19, 34), (19, 33)]

    @repeatable
    @given(
        positives=st.lists(st.booleans(), max_size=80),
        weights=st.tuples(*[st.integers(0, 100)] * 3).filter(any),
        seed=st.integers(0, 2**40),
        stratify=st.booleans(),
    )
    def test_parts_are_disjoint_cover_every_row_and_are_right_to_a_row(self, positives, weights, seed, stratify):
        split = tuple(weight / sum(weights) for weight in weights)
        parts = _split_rows(positives, split, seed, stratify)
        assert sorted(row for part in parts for row in part) == list(range(len(positives)))
        for part, fraction in zip(parts, split, strict=True):
            assert abs(len(part) - fraction * len(positives)) < 1
            if stratify:
                ones = sum(positives[row] for row in part)
                assert abs(ones - fraction * sum(positives)) < 1 + 1e-9

    def test_depends_on_its_own_seed_alone(self):
        def parts(seed):
            return [loader.dataset.x.tolist() for loader in loaders(IonosphereDataModule(seed=seed))]

        before = parts(0)
        seed_everything(7)
        assert parts(0) == before
        assert parts(1) != before

    def test_loading_leaves_the_global_generators_alone(self):
        seed_everything(7)
        IonosphereDataModule().prepare_data()
        after = torch.rand(1).item(), random.random()
        seed_everything(7)
        assert after == (torch.rand(1).item(), random.random())

    def test_ordered_trains_on_the_first_rows_and_says_once_what_validates(self, caplog):
        data = IonosphereDataModule(split="ordered:200")
        everything = data.predict_dataloader().dataset
        train, validation, test = (loader.dataset for loader in loaders(data))
        assert torch.equal(train.x, everything.x[:200])
        assert torch.equal(test.x, everything.x[200:])
        assert torch.equal(test.y, everything.y[200:])
        assert torch.equal(validation.x, test.x)
        with caplog.at_level(logging.INFO):
            data.setup("test")
            assert not caplog.messages
            data.setup("fit")
            data.setup("validate")
        assert caplog.messages == ["split=ordered:200: validation uses the test rows"]

    def test_fractions_say_nothing(self, caplog):
        with caplog.at_level(logging.INFO):
            IonosphereDataModule().setup("fit")
        assert not caplog.messages


class TestStandardize:
    def test_statistics_are_those_of_the_training_rows(self):
        train, _, test = loaders(IonosphereDataModule(split="ordered:200", standardize=True))
        raw = IonosphereDataModule().predict_dataloader().dataset.x.double().numpy()
        mean, std = raw[:200].mean(axis=0), raw[:200].std(axis=0)
        std[1] = 1  # column 2 is constant
        for loader, rows in ((train, raw[:200]), (test, raw[200:])):
            np.testing.assert_allclose(loader.dataset.x.numpy(), (rows - mean) / std, rtol=0, atol=2e-6)
        assert test.dataset.x.mean(dim=0).abs().max() > 0.1  # a leak would have brought these to 0

    def test_constant_columns_are_only_shifted(self, write):
        rows = [f"{row},0.1,{'7' if row == 7 else '3'},{'ab'[row % 2]}\n" for row in range(8)]
        data = CSVDataModule(write("".join(rows)), split="ordered:7", standardize=True)
        x = data.predict_dataloader().dataset.x
        # Rows 0 to 6: mean 3, population variance (9+4+1+0+1+4+9)/7 = 4.
        assert x[:, 0].tolist() == [-1.5, -1, -0.5, 0, 0.5, 1, 1.5, 2]
        assert x[:, 1].abs().max() < 1e-12
        assert x[:, 2].tolist() == [0, 0, 0, 0, 0, 0, 0, 4]

    def test_rounding_does_not_make_a_constant_column_vary(self, write):
        # torch finds the deviation of seven times 0.1, in a column alone, to be 1.4e-17: divided by it, they become 1.
        data = CSVDataModule(write("0.1,a\n0.1,b\n" * 4), split="ordered:7", standardize=True)
        assert data.predict_dataloader().dataset.x.abs().max() < 1e-12

    def test_is_computed_in_double_precision(self, write):
        # In float32 neighbours of 1e9 are 64 apart, so that these would be one and the same number.
        rows = [f"{10**9 + row},{'ab'[row % 2]}\n" for row in range(5)]
        data = CSVDataModule(write("".join(rows)), split="ordered:4", standardize=True)
        # Rows 0 to 3: mean 1.5, variance 1.25.
        expected = (torch.arange(5) - 1.5) / 1.25**0.5
        torch.testing.assert_close(data.predict_dataloader().dataset.x[:, 0], expected)


class TestBatches:
    def test_shapes(self):
        shapes = [(tuple(x.shape), tuple(y.shape)) for x, y in IonosphereDataModule(batch_size=100).train_dataloader()]
        assert shapes == [((100, 34), (100, 1)), ((100, 34), (100, 1)), ((46, 34), (46, 1))]

    def test_order_and_values_equal_the_stock_loader_under_the_global_seed(self):
        ours = IonosphereDataModule().train_dataloader()
        stock = DataLoader(TensorDataset(ours.dataset.x, ours.dataset.y), batch_size=24, shuffle=True)

        def two_epochs(loader):
            seed_everything(3)
            return [batch for _ in range(2) for batch in loader]

        for (x, y), (stock_x, stock_y) in zip(two_epochs(ours), two_epochs(stock), strict=True):
            assert torch.equal(x, stock_x)
            assert torch.equal(y, stock_y)

    def test_every_epoch_has_every_training_row_in_a_new_order(self, write):
        data = CSVDataModule(write(TEN), split=(0.6, 0.2, 0.2), batch_size=4)
        seed_everything(0)
        epochs = [[int(row) for x, _ in data.train_dataloader() for row in x[:, 0]] for _ in range(3)]
        assert all(sorted(epoch) == [2, 3, 4, 5, 7, 8] for epoch in epochs)
        assert len({tuple(epoch) for epoch in epochs}) == 3

    def test_samplers_are_the_ones_that_lightning_replaces(self):
        data = IonosphereDataModule()
        assert type(data.train_dataloader().sampler) is RandomSampler
        for loader in (data.val_dataloader(), data.test_dataloader(), data.predict_dataloader()):
            assert type(loader.sampler) is SequentialSampler

    def test_a_distributed_sampler_divides_the_rows(self, write):
        loader = CSVDataModule(write(TEN), split=(0.6, 0.2, 0.2), batch_size=2).train_dataloader()
        seen = []
        for rank in range(2):
            sampler = DistributedSampler(loader.dataset, num_replicas=2, rank=rank)
            shard = DataLoader(loader.dataset, batch_size=2, sampler=sampler, collate_fn=loader.collate_fn)
            seen += [int(row) for x, _ in shard for row in x[:, 0]]
        assert sorted(seen) == [2, 3, 4, 5, 7, 8]

    @pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # Python 3.12 and later, for any fork
    def test_workers_yield_the_same_batches(self):
        helped = IonosphereDataModule(num_workers=1).predict_dataloader()
        assert helped.persistent_workers
        alone = IonosphereDataModule().predict_dataloader()
        for (x, y), (other_x, other_y) in zip(list(alone), list(helped), strict=True):
            assert torch.equal(x, other_x)
            assert torch.equal(y, other_y)

    def test_single_rows_are_the_rows_of_a_batch(self):
        rows = IonosphereDataModule().predict_dataloader().dataset
        x, y = rows[5]
        batch_x, batch_y = rows.__getitems__([5])
        assert torch.equal(x, batch_x[0])
        assert torch.equal(y, batch_y[0])


class TestReading:
    @repeatable
    @given(
        rows=st.lists(
            st.tuples(*[st.floats(width=32, allow_nan=False, allow_infinity=False)] * 2), min_size=6, max_size=12
        )
    )
    def test_numbers_survive_the_file(self, rows, tmp_path_factory):
        path = tmp_path_factory.getbasetemp() / "round_trip.csv"
        path.write_text("".join(f"{a!r},{b!r},{'ab'[i % 2]}\n" for i, (a, b) in enumerate(rows)))
        data = CSVDataModule(path, split="ordered:3")
        assert data.predict_dataloader().dataset.x.tolist() == [list(row) for row in rows]

    @pytest.mark.parametrize(
        ("content", "options", "rows"),
        [
            pytest.param(TEN, {}, 10, id="none"),
            pytest.param("w,h,label\n" + TEN, {}, 10, id="names"),
            pytest.param(",h,label\n" + TEN, {}, 10, id="one-name-empty"),
            pytest.param("0,1,label\n" + TEN, {"header": True}, 10, id="numbers-said-to-be-names"),
            pytest.param("0,1,label\n" + TEN, {"target": "label"}, 10, id="named-target-implies-it"),
            pytest.param(TEN, {"header": True}, 9, id="as-told"),
            pytest.param("\ufeffw,h,label\n" + TEN, {"target": "label"}, 10, id="byte-order-mark"),
            pytest.param("\n" + TEN.replace("\n", "\n\n") + "  \n\n", {}, 10, id="blank-lines"),
            pytest.param(TEN.replace("\n", "\r\n"), {}, 10, id="crlf"),
            pytest.param(TEN.replace("\n", "\r"), {}, 10, id="cr"),
            pytest.param(TEN.replace(",", " , "), {}, 10, id="spaces"),
            pytest.param(TEN.replace("0.5", ' "0.5"'), {}, 10, id="quotes"),
        ],
    )
    def test_header(self, write, content, options, rows):
        data = CSVDataModule(write(content), **options)
        assert data.num_features == 2
        assert data.class_names == ("a", "b")
        assert len(data.predict_dataloader().dataset) == rows

    @pytest.mark.parametrize("target", [0, -3, "kind"])
    def test_target_anywhere(self, write, target):
        rows = "".join(f"{'ab'[row % 2]},{row},7\n" for row in range(10))
        dataset = CSVDataModule(write("kind,n,c\n" + rows), target=target).predict_dataloader().dataset
        assert dataset.x.tolist() == [[row, 7] for row in range(10)]
        assert dataset.y.flatten().tolist() == [0, 1] * 5

    @pytest.mark.parametrize(
        ("labels", "positive", "names"),
        [
            (("b", "g"), None, ("b", "g")),
            (("g", "b"), None, ("b", "g")),
            (("b", "g"), "g", ("b", "g")),
            (("b", "g"), "b", ("g", "b")),
            (("1", "0"), None, ("0", "1")),
            (("+1", "-1"), None, ("-1", "+1")),
            (("10", "9"), None, ("9", "10")),
            (("Yes", "no"), None, ("no", "Yes")),
        ],
    )
    def test_positive(self, write, labels, positive, names):
        rows = "".join(f"{row},{labels[row % 2]}\n" for row in range(10))
        data = CSVDataModule(write(rows), positive=positive)
        assert data.class_names == names
        assert (
            data.predict_dataloader().dataset.y.flatten().tolist() == [labels.index(names[1]) == i for i in (0, 1)] * 5
        )

    def test_the_file_is_read_once_and_not_before_it_is_needed(self, write):
        data = CSVDataModule("f.csv")
        write(TEN)
        data.prepare_data()
        write("")
        assert data.num_features == 2
        assert len(data.train_dataloader().dataset) == 7


NOT_A_NUMBER = "'x' is not a number: correct it, remove the column, or set target={} if it holds the label"
OR_HEADER = "; or set header=true if this row holds the column names"
KEEP_TWO = "keep the rows of two, or choose the label's column with target"
SPELLINGS = "give three fractions that sum to 1, like [0.7, 0.15, 0.15], or 'ordered:200'"


class TestRefusals:
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("", "f.csv: the file is empty: give a CSV file with rows"),
            ("\n \n", "f.csv: the file is empty: give a CSV file with rows"),
            ("w,label\n", "f.csv: has only a header (row 1): add rows, or set header=false if it is data"),
            ("1,2,a\n\n3,4\n", "f.csv: row 3 has 2 cells where row 1 has 3: give every row one cell for each column"),
            ("1,2,a\n1,2,3,b\n", "f.csv: row 2 has 4 cells where row 1 has 3: give every row one cell for each column"),
            ("1;2;a\n3;4;b\n", "f.csv: row 1 has one column: separate the cells with commas, the features and a label"),
            ("1,2,a\nx,4,b\n", f"f.csv: row 2, column 1: {NOT_A_NUMBER.format(0)}"),
            ("w,h,label\n1,2,a\n\n3,x,b\n", f"f.csv: row 4, column 2 ('h'): {NOT_A_NUMBER.format(1)}"),
            ("1,x,a\n3,4,b\n", f"f.csv: row 1, column 2: {NOT_A_NUMBER.format(1)}{OR_HEADER}"),
            ("1,2,a\n3,,b\n", "f.csv: row 2, column 2: '' is a missing value: fill it in or delete the row"),
            ("1,2,a\n3,4,?\n", "f.csv: row 2, column 3: '?' is a missing value: fill it in or delete the row"),
            ("1,2,a\n3,inf,b\n", "f.csv: row 2, column 2: 'inf' is not a finite 32-bit number: correct it"),
            ("1,2,a\n3,-1e39,b\n", "f.csv: row 2, column 2: '-1e39' is not a finite 32-bit number: correct it"),
            (
                "1,2,a\n3,4,a\n",
                "f.csv: column 3 holds one class only, 'a' in all 2 rows: add rows of the other class, "
                "or choose the label's column with target",
            ),
            (
                "w,kind\n1,a\n2,c\n3,b\n4,b\n5,a\n",
                f"f.csv: row 3, column 2 ('kind'): 'c' makes 3 classes, beside 'a', 'b': {KEEP_TWO}",
            ),
            (
                "0,label\n1,a\n2,b\n3,b\n4,a\n",
                f"f.csv: row 1, column 2: 'label' makes 3 classes, beside 'a', 'b': {KEEP_TWO}{OR_HEADER}",
            ),
            (
                "".join(f"{row},{row}\n" for row in range(9)),
                f"f.csv: row 9, column 2: '8' makes 9 classes, beside '0', '1', '2', ...: {KEEP_TWO}",
            ),
            ('1,a\n2,"b\n', "f.csv: row 2: not CSV (unexpected end of data): mend the quotes in this row"),
            (b"1,a\n2,\xe9\n", "f.csv: row 2: byte 0xe9 is not UTF-8 text: save the file as CSV in UTF-8"),
        ],
    )
    def test_content(self, write, content, message):
        assert refusal(write(content)) == message

    @pytest.mark.parametrize("missing", ["", " ", "?", "NA", "na", "NaN", "nan", "null", "NULL"])
    @pytest.mark.parametrize("column", [1, 2, 3])
    def test_missing_value_in_any_column(self, write, missing, column):
        cells = ["1", "2", "a"]
        cells[column - 1] = missing
        message = refusal(write(TEN + ",".join(cells) + "\n"))
        assert message.startswith(f"f.csv: row 11, column {column}: {missing.strip()!r} is a missing value: ")

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (
                {"target": 3},
                "f.csv: target=3 is not one of its 3 columns: give 0 to 2, or -1 to -3 counted from the end",
            ),
            (
                {"target": -4},
                "f.csv: target=-4 is not one of its 3 columns: give 0 to 2, or -1 to -3 counted from the end",
            ),
            (
                {"target": "labl"},
                "f.csv: row 1: no column is named 'labl' (did you mean 'label'?): set target to one name of the header "
                "('w', 'w', 'label') or to a column index from 0 to 2",
            ),
            (
                {"target": "w"},
                "f.csv: row 1: 2 columns are named 'w': set target to one name of the header ('w', 'w', 'label') "
                "or to a column index from 0 to 2",
            ),
            (
                {"target": "label", "header": False},
                "target='label' names a column, but header=false says that f.csv has no names: "
                "give a column index from 0 to 2",
            ),
            (
                {"positive": "A"},
                "f.csv: positive='A' is not a label of column 3 ('label') (did you mean 'a'?): choose 'a' or 'b'",
            ),
            (
                {"split": (0.8, 0, 0.2)},
                "f.csv: split=(0.8, 0, 0.2) leaves the validation part of its 10 rows empty "
                "(8 train, 0 validation, 2 test): give that part more, or add rows",
            ),
            (
                {"split": "ordered:0"},
                "f.csv: split='ordered:0' leaves the train part of its 10 rows empty "
                "(0 train, 10 validation, 10 test): give that part more, or add rows",
            ),
            (
                {"split": "ordered:10"},
                "f.csv: split='ordered:10' leaves the validation part of its 10 rows empty "
                "(10 train, 0 validation, 0 test): give that part more, or add rows",
            ),
        ],
    )
    def test_options_that_the_file_contradicts(self, write, options, message):
        assert refusal(write("w,w,label\n" + TEN), **options) == message

    def test_path(self, write, tmp_path):
        write(TEN, "sonar.csv")
        assert refusal("sonra.csv") == (
            "sonra.csv: no such file (did you mean 'sonar.csv'?): give the path of a CSV file"
        )
        assert refusal(tmp_path) == f"{tmp_path}: is a directory: give the path of a CSV file"
        assert refusal("sonar.csv/x.csv") == (
            "sonar.csv/x.csv: cannot be read (Not a directory): give the path of a CSV file"
        )

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"batch_size": 0}, "batch_size=0 must be a whole number of at least 1"),
            ({"batch_size": 2.0}, "batch_size=2.0 must be a whole number of at least 1"),
            ({"num_workers": -1}, "num_workers=-1 must be a whole number of at least 0"),
            ({"seed": -1}, "seed=-1 must be a whole number of at least 0"),
            ({"split": (0.6, 0.4)}, f"split=(0.6, 0.4) has 2 parts: {SPELLINGS}"),
            ({"split": (0.6, 0.2, 0.1)}, f"split=(0.6, 0.2, 0.1) sums to 0.9: {SPELLINGS}"),
            (
                {"split": (1.2, -0.1, -0.1)},
                f"split=(1.2, -0.1, -0.1) has the fraction 1.2, not within 0 to 1: {SPELLINGS}",
            ),
            ({"split": "ordered"}, f"split='ordered' is not a split: {SPELLINGS}"),
            ({"split": "ordered:-3"}, f"split='ordered:-3' is not a split: {SPELLINGS}"),
        ],
    )
    @pytest.mark.parametrize("cls", [lambda **options: CSVDataModule("f.csv", **options), IonosphereDataModule])
    def test_arguments_in_construction(self, cls, options, message):
        with pytest.raises(InputError) as caught:
            cls(**options)
        assert str(caught.value) == message

    def test_header_argument(self):
        assert refusal("f.csv", header="yes") == "header='yes' must be 'auto', true or false"

    @pytest.mark.parametrize(
        "use", [attrgetter("num_features"), attrgetter("class_names"), methodcaller("prepare_data")], ids=str
    )
    def test_every_first_use_checks_everything(self, write, use):
        data = CSVDataModule(write(TEN), split="ordered:10")
        with pytest.raises(InputError, match="leaves the validation part"):
            use(data)

    def test_training_refuses_before_any_folder_is_made(self, write, tmp_path):
        name = write("1,2,a\nx,4,b\n")
        trainer = Trainer(accelerator="cpu", max_epochs=1, enable_progress_bar=False, enable_model_summary=False)
        with pytest.raises(InputError, match="row 2, column 1"):
            trainer.fit(BoringModel(), CSVDataModule(name))
        assert [path.name for path in tmp_path.iterdir()] == [name]


class TestConfiguration:
    def test_checkpoint_gives_the_module_back(self, write, tmp_path):
        data = CSVDataModule(Path(write(TEN)), positive="a", split=(0.6, 0.2, 0.2), seed=4, batch_size=3)
        key = CSVDataModule.CHECKPOINT_HYPER_PARAMS_KEY
        torch.save(
            {key: dict(data.hparams), "pytorch-lightning_version": lightning.__version__}, tmp_path / "some.ckpt"
        )
        loaded = CSVDataModule.load_from_checkpoint(tmp_path / "some.ckpt", weights_only=True)
        assert loaded.class_names == ("b", "a")
        assert loaded.batch_size == 3
        assert row_numbers(loaded) == row_numbers(data)

    def test_the_bundled_file_leaves_no_path_in_a_checkpoint(self):
        assert dict(IonosphereDataModule(seed=3).hparams) == {
            "batch_size": 24,
            "split": (0.7, 0.15, 0.15),
            "seed": 3,
            "stratify": True,
            "standardize": False,
            "num_workers": 0,
        }

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            ([], {"target": -1, "positive": None, "header": "auto", "split": (0.7, 0.15, 0.15)}),
            (["--data.split=ordered:6", "--data.target=label"], {"split": "ordered:6", "target": "label"}),
            (["--data.split", "[0.6,0.2,0.2]", "--data.target", "-1"], {"split": (0.6, 0.2, 0.2), "target": -1}),
            (["--data.header", "true", "--data.positive", "1"], {"header": True, "positive": "1"}),
            (["--data.header", "false", "--data.target", "2"], {"header": False, "target": 2}),
        ],
    )
    def test_command_line_types(self, arguments, expected):
        parser = ArgumentParser(exit_on_error=False)
        parser.add_class_arguments(CSVDataModule, "data")
        data = CSVDataModule(**parser.parse_args(["--data.path=f.csv", *arguments]).data)
        for name, value in expected.items():
            assert getattr(data, name) == value
            assert type(getattr(data, name)) is type(value)
