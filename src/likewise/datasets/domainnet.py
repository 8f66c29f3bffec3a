"""DomainNet, one dataset for each domain that is trained on, and SENTRY's part of it.

Peng et al. 2019, arXiv:1812.01754. Splits are those of the published lists; every other domain here is a report split.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from likewise.data.records import Dataset, Split
from likewise.datasets.imagenet import templates
from likewise.datasets.listed import lines, listed
from likewise.datasets.named import Named, carved, made, three
from likewise.errors import DataError, some

DOMAINS = ("clipart", "infograph", "painting", "quickdraw", "real", "sketch")
SENTRY = ("clipart", "painting", "real", "sketch")
SIZES = {
    "clipart": (33_525, 14_604), "infograph": (36_023, 15_582), "painting": (50_416, 21_850),
    "quickdraw": (120_750, 51_750), "real": (120_906, 52_041), "sketch": (48_212, 20_916),
}  # fmt: skip
"""Pictures in the train and test list of each domain, of the cleaned version."""
SHARE = 10
"""One picture in so many of the train list is held back to select on."""
PLACES = ("", "splits", "original_splits", "txt", "SENTRY_splits")
"""Folders in which the lists may lie, from the dataset's own."""

Items = list[tuple[str, int]]


def read(domain: str, suffix: str, folder: Path) -> Dataset:
    """Train, select and `id` of one domain, and the test list of every other whose folder and lists are here.

    `suffix` is what the lists' names end with: `_mini` is SENTRY's part. Raises `DataError` D17 where lists disagree.
    """
    here = {name: found for name in DOMAINS if (found := _lists(folder, name, suffix)) is not None}
    if domain not in here:
        raise DataError(
            "D17", f"{folder} has no {domain}_train{suffix}.txt and {domain}_test{suffix}.txt, which are downloaded "
            "beside the pictures. Put them there or into splits/."
        )  # fmt: skip
    folders = _classes(folder, here)
    train, test = here[domain]
    records = listed(folder, train)
    splits = three(*carved(records, len(records) // SHARE, "domainnet"), listed(folder, test))
    for other, (_, items) in here.items():
        if other != domain and (folder / other).is_dir():
            splits.append(Split(other, "report", listed(folder, items)))
    return made(_name(domain, suffix), [name.replace("_", " ") for name in folders], splits, templates(), folders)


def _lists(folder: Path, domain: str, suffix: str) -> tuple[Items, Items] | None:
    """What the lists of a domain name: paths below the dataset's folder, and labels; train and test."""
    for place in PLACES:
        paths = [folder / place / f"{domain}_{part}{suffix}.txt" for part in ("train", "test")]
        if all(path.is_file() for path in paths):
            train, test = ([_item(path, line) for line in lines(path)] for path in paths)
            return train, test
    return None


def _item(path: Path, line: str) -> tuple[str, int]:
    name, _, label = line.rpartition(" ")
    if not label.isdigit() or name.count("/") != 2:
        raise DataError("D17", f"{path} has a line that is not «domain/class/picture label»: {line}. Get it again.")
    return name, int(label)


def _classes(folder: Path, here: dict[str, tuple[Items, Items]]) -> list[str]:
    """Class folders in label order, by all lists that are here: painting's train list alone lacks a class."""
    called: dict[int, str] = {}
    for items in here.values():
        for name, label in [*items[0], *items[1]]:
            class_folder = name.split("/")[1]
            if called.setdefault(label, class_folder) != class_folder:
                raise DataError(
                    "D17", f"the lists of {folder} call label {label} both «{called[label]}» and «{class_folder}»."
                )  # fmt: skip
    if gaps := sorted(set(range(max(called, default=0) + 1)) - set(called)):
        raise DataError(
            "D17", f"the lists of {folder} have no picture of labels {some(map(str, gaps))}. Put the lists of the "
            "other domains beside them."
        )  # fmt: skip
    return [called[label] for label in range(len(called))]


def _name(domain: str, suffix: str) -> str:
    return f"domainnet-{'sentry-' * bool(suffix)}{domain}"


def _entry(domain: str) -> Named:
    n = SIZES[domain][0]
    own = {"train": n - n // SHARE, "select": n // SHARE, "id": SIZES[domain][1]}
    return Named(
        _name(domain, ""),
        f"DomainNet: 345 things, trained on {domain}, with every other domain that is here as a shift.",
        partial(read, domain, ""),
        folders=("domainnet", "DomainNet", "domainnet_v1.0"),
        needs=(domain,),
        get="https://ai.bu.edu/M3SDA (cleaned version): unpack each domain's zip into domainnet/, its two lists beside",
        licence="no licence: «fair use» for research and teaching, as its page has it",
        paper="Peng et al. 2019, arXiv:1812.01754",
        counts=own | {other: test for other, (_, test) in SIZES.items() if other != domain},
        classes="61341d99d7c16d0f",
        notes="Methods choose on a tenth of the train list, drawn by key; the published protocol has no validation. "
        "The train list of painting has no picture of t-shirt. Templates are OpenAI's 80 for ImageNet; none are "
        "published for DomainNet.",
    )


def _sentry(domain: str) -> Named:
    return Named(
        _name(domain, "_mini"),
        f"DomainNet's 40 common classes in four domains (SENTRY's lists), trained on {domain}.",
        partial(read, domain, "_mini"),
        folders=("domainnet", "DomainNet", "domainnet_v1.0"),
        needs=(domain, f"*/{domain}_train_mini.txt"),
        get="DomainNet as above, and the lists *_mini.txt of github.com/virajprabhu/SENTRY (data/DomainNet/txt) in "
        "domainnet/SENTRY_splits/",
        licence="no licence: «fair use» for research and teaching, as its page has it",
        paper="Prabhu et al. 2021, arXiv:2012.11460; classes by Tan et al. 2020, arXiv:1910.10320; Peng et al. 2019, "
        "arXiv:1812.01754",
        classes="17352b553b0cb1af",
        notes="What LP-FT calls DomainNet is `domainnet-sentry-sketch`, with real, painting and clipart as shifts. "
        "Sizes are not verified. Methods choose on a tenth of the train list, drawn by key; LP-FT chose on what it "
        "reported. Templates are OpenAI's 80 for ImageNet.",
    )


ENTRIES = (*map(_entry, DOMAINS), *map(_sentry, SENTRY))
