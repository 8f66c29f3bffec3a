"""CIFAR-10 with its shifts (CIFAR-10.1, CIFAR-10.2, STL-10) and CIFAR-100, from copies that are not pickled.

Binary versions, Hugging Face's parquet files, and for CIFAR-10.1 the `.npy` arrays of numbers.
"""

# C channels, H height, L label bytes, N pictures, W width.

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from likewise.data.records import Dataset, Record, Split
from likewise.datasets.arrays import Arrays, state_of, table_of
from likewise.datasets.listed import names_in
from likewise.datasets.named import Named, carved, made, roots, three
from likewise.errors import DataError

SELECT = 5_000
CIFAR_10 = names_in("airplane; automobile; bird; cat; deer; dog; frog; horse; ship; truck")
CIFAR_100 = names_in(
    """apple; aquarium fish; baby; bear; beaver; bed; bee; beetle; bicycle; bottle; bowl; boy; bridge; bus; butterfly;
    camel; can; castle; caterpillar; cattle; chair; chimpanzee; clock; cloud; cockroach; couch; crab; crocodile; cup;
    dinosaur; dolphin; elephant; flatfish; forest; fox; girl; hamster; house; kangaroo; keyboard; lamp; lawn mower;
    leopard; lion; lizard; lobster; man; maple tree; motorcycle; mountain; mouse; mushroom; oak tree; orange; orchid;
    otter; palm tree; pear; pickup truck; pine tree; plain; plate; poppy; porcupine; possum; rabbit; raccoon; ray; road;
    rocket; rose; sea; seal; shark; shrew; skunk; skyscraper; snail; snake; spider; squirrel; streetcar; sunflower;
    sweet pepper; table; tank; telephone; television; tiger; tractor; train; trout; tulip; turtle; wardrobe; whale;
    willow tree; wolf; woman; worm"""
)
KINDS = ("photo", "blurry photo", "black and white photo", "low contrast photo", "high contrast photo", "bad photo",
         "good photo")  # fmt: skip
TEMPLATES = tuple(
    f"a {kind} of {article} {word}{{}}."
    for article in ("a", "the")
    for kind, word in (*((kind, "") for kind in KINDS), ("photo", "small "), ("photo", "big "))
)
"""OpenAI's 18 for both CIFAR sets."""
STL_10 = (0, 2, 1, 3, 4, 5, 7, None, 8, 9)
"""Labels of CIFAR-10 for STL-10's classes in its order; its monkey is none of them."""
V10_1 = ("CIFAR-10.1/datasets", "CIFAR-10.1", "cifar-10.1", "cifar10.1")
V10_2 = ("cifar10_2/data", "cifar10_2", "CIFAR-10.2", "cifar-10.2")
"""Usual folders of the shifts, beside the dataset's own or below a root."""


def cifar_10(folder: Path) -> Dataset:
    """Train without 5,000 to select on, `id` the 10,000 of the test part, and the shifts that are found."""
    train, test = _parts("cifar-10", folder, 1, "label")
    splits = three(*carved(train, SELECT, "cifar-10"), test)
    near = [folder.parent, *roots()]
    if (place := _found(near, V10_1, "cifar10.1_v6_data.npy")) is not None:
        paths = [place / f"cifar10.1_v6_{what}.npy" for what in ("data", "labels")]
        records = _tabled("cifar-10.1", paths, lambda: {"test": (_npy(paths[0]), _npy(paths[1]))})["test"]
        splits.append(Split("v10.1", "report", tuple(records)))
    if (place := _found(near, V10_2, "test-*.parquet")) is not None:
        splits.append(Split("v10.2", "report", tuple(_parquet(place, "test", "label"))))
    if (place := _found(near, ("stl10_binary", "stl10/stl10_binary", "stl-10"), "test_X.bin")) is not None:
        paths = [place / "test_X.bin", place / "test_y.bin"]
        records = _tabled("stl-10", paths, lambda: {"test": _stl(*paths)})["test"]
        shared = tuple((label,) for label in sorted(label for label in STL_10 if label is not None))
        splits.append(Split("stl-10", "report", tuple(records), among=shared))
    return made("cifar-10", CIFAR_10, splits, TEMPLATES)


def cifar_100(folder: Path) -> Dataset:
    """Train without 5,000 to select on, `id` the 10,000 of the test part; by the 100 fine labels."""
    train, test = _parts("cifar-100", folder, 2, "fine_label")
    return made("cifar-100", CIFAR_100, three(*carved(train, SELECT, "cifar-100"), test), TEMPLATES)


def _found(near: Sequence[Path], names: Sequence[str], file: str) -> Path | None:
    places = (root / name for root in near for name in names)
    return next((place for place in places if next(place.glob(file), None) is not None), None)


def _parts(name: str, folder: Path, label_bytes: int, column: str) -> tuple[list[Record], list[Record]]:
    """Train and test records of a CIFAR folder, binary or parquet."""
    if next(folder.glob("test-*.parquet"), None) is not None:
        return _parquet(folder, "train", column), _parquet(folder, "test", column)
    files = {
        part: sorted(path for pattern in patterns for path in folder.glob(pattern))
        for part, patterns in (("train", ("data_batch_*.bin", "train.bin")), ("test", ("test_batch.bin", "test.bin")))
    }
    if not all(files.values()):
        raise DataError(
            "D17", f"{folder} has neither the files of {name}'s binary version nor parquet files. Its version for "
            "Python is pickled, which can run code, and is never opened."
        )  # fmt: skip
    found = _tabled(
        name, [path for paths in files.values() for path in paths],
        lambda: {part: _binary(paths, label_bytes) for part, paths in files.items()},
    )  # fmt: skip
    return found["train"], found["test"]


def _tabled(name: str, files: Sequence[Path], parts: Callable[[], Mapping[str, Arrays]]) -> dict[str, list[Record]]:
    """Records of arrays, by part, in a table that is written once for these files as they are now."""
    path = table_of(name, state_of(files), parts)
    found: dict[str, list[Record]] = {}
    for place, row in enumerate(pq.read_table(path, columns=["split", "label", "number"]).to_pylist()):
        record = Record(f"{row['split']}:{row['number']}", row["label"], path, place)
        found.setdefault(row["split"], []).append(record)
    return found


def _parquet(folder: Path, part: str, column: str) -> list[Record]:
    """The records of a part's parquet files in the order of their names."""
    records: list[Record] = []
    for path in sorted(folder.glob(f"{part}-*.parquet")):
        try:
            labels = pq.read_table(path, columns=[column]).column(column).to_pylist()
        except (OSError, KeyError, ValueError) as error:
            raise DataError("D17", f"{path} cannot be read for «{column}» ({error}). Get it again.") from None
        records += [Record(f"{part}:{len(records) + i}", label, path, i) for i, label in enumerate(labels)]
    return records


def _binary(paths: Sequence[Path], label_bytes: int) -> Arrays:
    """CIFAR's binary files: of each picture its label bytes, the last of which counts, then 3 x 32 x 32 of pixels."""
    rows = np.concatenate([_bytes(path, label_bytes + 3072) for path in paths])
    pixels_NCHW = rows[:, label_bytes:].reshape(-1, 3, 32, 32)
    return pixels_NCHW.transpose(0, 2, 3, 1), rows[:, label_bytes - 1]


def _stl(pictures: Path, labels: Path) -> Arrays:
    """STL-10's pictures of classes that CIFAR-10 has, under its labels. Theirs count from 1, and columns come first."""
    pixels_NCWH = _bytes(pictures, 3 * 96 * 96).reshape(-1, 3, 96, 96)
    label_N = [STL_10[int(theirs) - 1] for theirs in _bytes(labels, 1).ravel()]
    shared = [i for i, label in enumerate(label_N) if label is not None]
    return pixels_NCWH[shared].transpose(0, 3, 2, 1), np.array([label_N[i] for i in shared])


def _bytes(path: Path, width: int) -> np.ndarray:
    """A file's bytes in rows. Raises `DataError` D17 where they do not come out even."""
    data = np.fromfile(path, np.uint8)
    if not len(data) or len(data) % width:
        raise DataError("D17", f"{path} has {len(data):,} bytes, which are not pictures of {width:,}. Get it again.")
    return data.reshape(-1, width)


def _npy(path: Path) -> np.ndarray:
    """An array of numbers from a `.npy` file; one of objects is refused, since those are pickled."""
    try:
        with open(path, "rb") as file:
            return np.asarray(np.lib.format.read_array(file, allow_pickle=False))
    except (OSError, ValueError) as error:
        raise DataError("D17", f"{path} is not an array of numbers ({error}). Get it again.") from None


BINARY = "{0} (binary version) from https://www.cs.toronto.edu/~kriz/cifar.html, unpacked, or the parquet files of"
ENTRIES = (
    Named(
        "cifar-10",
        "CIFAR-10: 10 classes, 32 x 32, with the shifts that are here: CIFAR-10.1, CIFAR-10.2, STL-10.",
        cifar_10,
        folders=("cifar-10-batches-bin", "cifar10/cifar-10-batches-bin", "cifar10/plain_text", "cifar10", "cifar-10"),
        needs=("test[_-]*",),
        get=f"{BINARY.format('cifar-10-batches-bin')} huggingface.co/datasets/uoft-cs/cifar10 in cifar10/plain_text/. "
        "The shifts: github.com/modestyachts/CIFAR-10.1 (datasets/cifar10.1_v6_*.npy); CIFAR-10.2's own files are "
        "pickled, so huggingface.co/datasets/nnheui/cifar10_2; stl10_binary from https://cs.stanford.edu/~acoates/stl10",
        licence="none named (CIFAR-10, STL-10); MIT (CIFAR-10.1)",
        paper="Krizhevsky 2009, Learning multiple layers of features from tiny images; Recht et al. 2018, "
        "arXiv:1806.00451 (10.1); Lu et al. 2020, ICML workshop on uncertainty in deep learning (10.2); Coates et al. "
        "2011, AISTATS (STL-10)",
        counts={"train": 45_000, "select": SELECT, "id": 10_000, "v10.1": 2_000, "v10.2": 2_000, "stl-10": 7_200},
        classes="feb528d8ad763e4c",
        notes="Methods choose on 5,000 training pictures, drawn by key. `v10.1` is its version 6; `v10.2` its test "
        "part in somebody else's parquet copy, whose labels are taken to be CIFAR-10's; `stl-10` its test part without "
        "monkeys, answered among the nine classes that both have (LP-FT lets frog be answered, which can only be "
        "wrong). Names and templates are OpenAI's.",
    ),
    Named(
        "cifar-100",
        "CIFAR-100: 100 classes, 32 x 32.",
        cifar_100,
        folders=("cifar-100-binary", "cifar100/cifar-100-binary", "cifar100/cifar100", "cifar100", "cifar-100"),
        needs=("test[.-]*",),
        get=f"{BINARY.format('cifar-100-binary')} huggingface.co/datasets/uoft-cs/cifar100 in cifar100/cifar100/",
        licence="none named",
        paper="Krizhevsky 2009, Learning multiple layers of features from tiny images",
        counts={"train": 45_000, "select": SELECT, "id": 10_000},
        classes="ed7a207d3b0d05dc",
        notes="Methods choose on 5,000 training pictures, drawn by key. Names and templates are OpenAI's.",
    ),
)
