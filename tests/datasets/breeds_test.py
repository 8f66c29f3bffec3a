"""BREEDS from a made-up ImageNet: the published division, drawn again by its authors' rule, and who is on a side."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from likewise.datasets.breeds import ENTITY_30, ENTRIES, LIVING_17, Division
from likewise.datasets.imagenet import synsets
from likewise.errors import DataError

Plant = Callable[[Path, Iterable[str]], None]
ENTRY = {entry.name: replace(entry, counts={}) for entry in ENTRIES}
IDS = synsets()

LEAVES_17 = """25-29; 33-37; 38-48; 52-68; 72-77; 80-83; 87-90; 118-121; 151-268; 269-272; 277-280; 281-285; 294-297;
    300-307; 321-326; 365-369; 370-382"""
LEAVES_30 = """52-68; 10-20; 38-48; 70-78; 97-100 127-146; 118-126; 151-299 356-362 387-388; 300-326; 339-355; 365-384;
    0-1 389-397; 421 460 489 525 716 825 877 912; 410 415 424-425 437 448-449 454 467 483 497-498 500 509 580 582 624
    634 660 663 668 698 727 743 762 788 832 860 865 915; 482 485 487 508 527-528 590 598 605 613 620 632 650 662 664 673
    681 688 707 713 742 745 754 761 782 848 851; 496 502 514 615 630 638 770 774 806; 399-400 411 445 459 474 501 529
    568 578 601 608 610 614 617 639 652 655 689 697 735 775 834 841-842 869 887; 433 439 452 515 518 560 584 667 715 793
    808 903; 521 534 545 550 606 621 651 760 766 786 811 827 859 882 891 897; 469 473 499 503 505 512 544 567 618 647
    729 773 813 849 868 909; 409 426 530-531 604 635 685 704 769 778 826 835 892; 407 436 468 511 555 561 569 573 575
    609 627 654 656 661 665 670 675 717 734 751 757 779 803 817 864 866-867 874; 401-402 420 432 486 494 513 541 546 558
    566 577 579 593-594 641-642 683-684 687 699 776 822 875 881 889; 443 451 457 552 678-679 824 906; 416 422 429-430
    522 543 574 602 702 722 747 752 768 795 801 805 852 890; 440-441 504 572 659 737 809 898-899 901 907 910 923; 418
    477 491 507 563 587 626 677 695-696 710 730-731 740 749 758 767 772 783-784 792 862; 403 472 484 510 554 576 625 628
    724 780 814 833 871 913-914; 925-926 933-935 962-965; 936-947; 948-957 984 987-990 998"""
"""ImageNet's labels below each superclass in BREEDS's hierarchy: what its rule draws from."""


def drawn(leaves: str, count: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The rule: for each superclass `count` subclasses without replacement, by one generator; the first half trains."""
    rng = np.random.RandomState(2)
    out = []
    for text in leaves.split(";"):
        ends = [list(map(int, part.split("-"))) for part in text.split()]
        below = sorted(label for first, *last in ends for label in range(first, (last or [first])[0] + 1))
        chosen = rng.choice([IDS[label] for label in below], count, replace=False)
        numbers = [IDS.index(wnid) for wnid in chosen]
        out.append((tuple(numbers[: count // 2]), tuple(numbers[count // 2 :])))
    return out


def test_the_divisions_are_drawn_by_the_published_rule() -> None:
    assert list(LIVING_17.values()) == drawn(LEAVES_17, 4)
    assert list(ENTITY_30.values()) == drawn(LEAVES_30, 8)


@pytest.mark.parametrize(("name", "division"), [("living-17", LIVING_17), ("entity-30", ENTITY_30)])
def test_no_subclass_is_on_both_sides(
    name: str, division: Division, root: Path, plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("likewise.datasets.breeds.VALIDATION", 1)
    (root / "imagenet" / "train" / "n01440764").mkdir(parents=True)  # by which ImageNet is found
    used = sorted({IDS[label] for sides in division.values() for side in sides for label in side})
    plant(root / "imagenet", [f"train/{wnid}/{wnid}_{i}.JPEG" for wnid in used for i in (1, 2, 3)])
    plant(root / "imagenet", [f"val/{wnid}/ILSVRC2012_val_{i}.JPEG" for i, wnid in enumerate(used)])
    data = ENTRY[name]()
    assert data.classes.names == tuple(division)
    identity, ood = data.read_report("test").values()
    home, away = ([{IDS[label] for label in sides[i]} for sides in division.values()] for i in (0, 1))
    n = sum(map(len, home))
    assert [len(s) for s in (data.train, data.select, identity, ood)] == [2 * n, n, n, n]
    for split, sides in ((data.train, home), (data.select, home), (identity, home), (ood, away)):
        assert all(record.path.parent.name in sides[record.label] for record in split.records)
    assert {r.path.parents[1].name for r in (*data.train.records, *data.select.records)} == {"train"}
    assert {r.path.parents[1].name for r in (*identity.records, *ood.records)} == {"val"}
    assert not set(data.train.records) & set(data.select.records)
    with pytest.raises(DataError, match=rf"id has {n} pictures instead of {50 * n:,}"):
        next(entry for entry in ENTRIES if entry.name == name)()
    (root / "imagenet" / "val" / min(away[3])).rename(root / "gone")
    with pytest.raises(DataError, match=f"{min(away[3])} is not there"):
        ENTRY[name]()
