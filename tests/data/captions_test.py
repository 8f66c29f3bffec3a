"""Every kind of source gives the same pairs; what belongs together stays together; what is wrong is said."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from likewise.data.audit import AuditError
from likewise.data.captions import PairOptions, Pairs, check_captions, from_classes, grouped, open_pairs
from likewise.data.decode import attempt
from likewise.data.records import ClassTable, Dataset, Record, Split
from likewise.errors import DataError, LikewiseError, MachineError, UsageError

Draw = Callable[..., Image.Image]
FOUR: dict[str, tuple[str, ...]] = {
    "a": ("a red fox", "a fox in snow"),
    "b": ("two dogs",),
    "c": ("two dogs", "a dog and a friend"),
    "d": ("a cat",),
}
TEXTS = ("a red fox", "a fox in snow", "two dogs", "a dog and a friend", "a cat")


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def root(tmp_path: Path, draw: Draw) -> Path:
    """Four pictures in a folder of their own."""
    (tmp_path / "pics").mkdir()
    for i, name in enumerate(FOUR):
        draw(i).save(tmp_path / "pics" / f"{name}.png")
    return tmp_path


def rows(columns: Sequence[str], mark: str, prefix: str = "pics/") -> str:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=mark, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([f"{prefix}{name}.png", caption] for name, own in FOUR.items() for caption in own)
    return text.getvalue()


def csv_file(root: Path) -> tuple[str, PairOptions]:
    (root / "pairs.csv").write_text(rows(("filepath", "caption"), ","))
    return str(root / "pairs.csv"), PairOptions()


def open_clips_csv(root: Path) -> tuple[str, PairOptions]:
    (root / "pairs.csv").write_text(rows(("filepath", "title"), "\t", ""))
    return str(root / "pairs.csv"), PairOptions(image_root=str(root / "pics"))


def tsv_with_columns_of_its_own(root: Path) -> tuple[str, PairOptions]:
    (root / "pairs.tsv").write_text(rows(("photo", "says"), "\t"))
    return str(root / "pairs.tsv"), PairOptions(image_col="photo", caption_col="says")


def parquet_of_paths(root: Path) -> tuple[str, PairOptions]:
    table = {"path": [f"pics/{name}.png" for name in FOUR], "captions": [list(own) for own in FOUR.values()]}
    pq.write_table(pa.table(table), root / "pairs.parquet")
    return str(root / "pairs.parquet"), PairOptions()


def parquet_of_pictures(root: Path) -> tuple[str, PairOptions]:
    encoded = [{"bytes": (root / "pics" / f"{name}.png").read_bytes(), "path": None} for name in FOUR]
    table = {"text": [list(own) for own in FOUR.values()], "image": encoded}
    pq.write_table(pa.table(table), root / "pairs.parquet")
    return str(root / "pairs.parquet"), PairOptions()


def folder_of_parquet(root: Path) -> tuple[str, PairOptions]:
    (root / "shards").mkdir()
    for i, names in enumerate(("ab", "cd")):
        encoded = [(root / "pics" / f"{name}.png").read_bytes() for name in names]
        table = {"image": encoded, "caption": [list(FOUR[name]) for name in names]}
        pq.write_table(pa.table(table), root / "shards" / f"train-{i}.parquet")
    return str(root / "shards"), PairOptions()


def coco(root: Path) -> tuple[str, PairOptions]:
    images = [{"id": 7 * i, "file_name": f"{name}.png"} for i, name in enumerate(FOUR)]
    notes = [{"image_id": 7 * i, "id": 100 + i, "caption": c} for i, own in enumerate(FOUR.values()) for c in own]
    (root / "annotations").mkdir()
    (root / "annotations" / "captions.json").write_text(json.dumps({"images": images, "annotations": notes}))
    return str(root / "annotations" / "captions.json"), PairOptions(image_root=str(root / "pics"))


def shard(path: Path, members: dict[str, bytes], **how: Any) -> Path:
    with tarfile.open(path, "w", **how) as tar:
        for name, data in members.items():
            about = tarfile.TarInfo(name)
            about.size = len(data)
            tar.addfile(about, io.BytesIO(data))
    return path


def samples(root: Path, names: str) -> dict[str, bytes]:
    return {
        f"some/{name}.{ending}": data
        for name in names
        for ending, data in (
            ("json", json.dumps({"caption": FOUR[name], "url": "http://example.com"}).encode()),
            ("png", (root / "pics" / f"{name}.png").read_bytes()),
        )
    }


def one_shard(root: Path) -> tuple[str, PairOptions]:
    return str(shard(root / "0.tar", samples(root, "abcd"))), PairOptions()


def folder_of_shards(root: Path) -> tuple[str, PairOptions]:
    (root / "shards").mkdir()
    shard(root / "shards" / "10.tar", samples(root, "d"))
    shard(root / "shards" / "2.tar", samples(root, "abc"), format=tarfile.GNU_FORMAT)
    return str(root / "shards"), PairOptions()


def pattern_of_shards(root: Path) -> tuple[str, PairOptions]:
    for number, name in zip(("08", "09", "10", "11"), "abcd", strict=True):
        shard(root / f"cc-{number}.tar", samples(root, name))
    return str(root / "cc-{08..11}.tar"), PairOptions()


def saved_dataset(root: Path) -> tuple[str, PairOptions]:
    library = pytest.importorskip("datasets")
    encoded = [{"bytes": (root / "pics" / f"{name}.png").read_bytes(), "path": None} for name in FOUR]
    features = library.Features({"image": library.Image(), "captions": library.Sequence(library.Value("string"))})
    data = library.Dataset.from_dict({"image": encoded, "captions": [list(c) for c in FOUR.values()]}, features)
    library.DatasetDict({"train": data, "test": data.select([3])}).save_to_disk(
        root / "saved", num_shards={"train": 2, "test": 1}
    )
    return str(root / "saved"), PairOptions()


KINDS = (csv_file, open_clips_csv, tsv_with_columns_of_its_own, parquet_of_paths, parquet_of_pictures,
         folder_of_parquet, coco, one_shard, folder_of_shards, pattern_of_shards, saved_dataset)  # fmt: skip


@pytest.mark.filterwarnings("ignore")  # the datasets library warns of its own
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_source_gives_the_same_pairs(kind: Callable[..., Any], root: Path, draw: Draw) -> None:
    source, options = kind(root)
    pairs = open_pairs(source, options)
    assert pairs.captions == tuple(FOUR.values())
    for i, record in enumerate(pairs.split.records):
        assert record.label == i
        assert pairs.split.open(i).tobytes() == draw(i).tobytes()
    texts = pairs.groups()
    assert texts.texts == TEXTS
    assert texts.codes == ((0, 1), (2,), (2, 3), (4,))
    assert texts.group_U.tolist() == [0, 0, 1, 1, 2]
    assert (pairs.split.role, pairs.held.role, len(pairs.held)) == ("train", "report", 0)
    assert len({record.key for record in pairs.split.records}) == 4
    assert pairs.audit.ok
    assert pairs.digest == open_pairs(source, options).digest
    assert "/" not in pairs.name


@pytest.mark.parametrize(
    ("pattern", "want"),
    [
        ("cc3m-{00000..00001}.tar", "cc3m"),
        ("cc3m_{00000..00001}.tar", "cc3m"),
        ("{00000..00001}.tar", "web"),
        ("*.tar", "web"),
        ("{00000..00001}/part.tar", "part"),
        ("v1.2-[01]?.tar", "v1.2"),
        ("00000.tar", "00000"),
    ],
)
def test_pairs_are_called_by_what_a_patterns_files_share(root: Path, pattern: str, want: str) -> None:
    web = root / "web"
    for name in ("cc3m-00000", "cc3m-00001", "cc3m_00000", "cc3m_00001", "00000", "00001", "v1.2-01", "v1.2-12"):
        web.mkdir(exist_ok=True)
        shard(web / f"{name}.tar", samples(root, "ab"))
    for name in ("00000", "00001"):
        (web / name).mkdir()
        shard(web / name / "part.tar", samples(root, "ab"))
    assert open_pairs(f"{web}/{pattern}").name == want


def test_digest_moves_with_pictures_captions_and_kin(root: Path) -> None:
    source, _ = csv_file(root)
    digests = [open_pairs(source).digest]
    (root / "pairs.csv").write_text((root / "pairs.csv").read_text().replace("a cat", "a tomcat"))
    digests.append(open_pairs(source).digest)
    (root / "pics" / "a.png").write_bytes((root / "pics" / "a.png").read_bytes() + b"\0")
    last = open_pairs(source)
    kin = Pairs(last.name, last.split, last.captions, (0, 1, 1, 2), last.held, last.held_captions)
    assert len({*digests, last.digest, kin.digest}) == 4


# -- what belongs together -------------------------------------------------------------------------------------


def closure(captions: Sequence[Sequence[str]], kin: Sequence[int]) -> np.ndarray:
    """Which texts are one group, by powers of the matrix of direct ties."""
    texts = list(dict.fromkeys(t for own in captions for t in own))
    ties_UU = np.eye(len(texts), dtype=int)
    for i, u in enumerate(texts):
        for j, v in enumerate(texts):
            shared = any(
                u in captions[a] and v in captions[b]
                for a in range(len(kin))
                for b in range(len(kin))
                if kin[a] == kin[b]
            )
            ties_UU[i, j] |= shared or u.lower() == v.lower()
    for _ in range(len(texts)):
        ties_UU = (ties_UU @ ties_UU > 0).astype(int)
    return ties_UU


@pytest.mark.parametrize("seed", range(4))
def test_groups_are_the_closure_of_what_stands_together(seed: int) -> None:
    rng = np.random.Generator(np.random.PCG64(seed))
    words = [w for n in range(14) for w in (f"text {n}", f"Text {n}")]
    captions = [[words[k] for k in rng.integers(0, len(words), rng.integers(1, 3))] for _ in range(9)]
    kin = rng.integers(0, 7, 9).tolist()
    texts = grouped(captions, kin)
    assert [[texts.texts[u] for u in codes] for codes in texts.codes] == captions
    assert np.array_equal(texts.group_U[:, None] == texts.group_U[None], closure(captions, kin) > 0)
    order = list(dict.fromkeys(texts.group_U.tolist()))
    assert order == sorted(order) == list(range(len(order)))  # numbered as they appear


def many(root: Path, draw: Draw, order: Sequence[int] | None = None, n: int = 300) -> str:
    """A table of `n` pictures; every caption is of three pictures, but for one picture in ten."""
    (root / "many").mkdir(exist_ok=True)
    for i in range(n):
        if not (root / "many" / f"{i}.png").exists():
            draw(1000 + i, 8).save(root / "many" / f"{i}.png")
    lines = [f"many/{i}.png,{f'only {i}' if i % 10 == 0 else f'thing {i // 3}'}" for i in (order or range(n))]
    (root / "many.csv").write_text("image,caption\n" + "\n".join(lines) + "\n")
    return str(root / "many.csv")


def keys(split: Split) -> list[str]:
    return [record.key for record in split.records]


def test_what_is_held_shares_no_text_with_training_and_does_not_depend_on_order(root: Path, draw: Draw) -> None:
    pairs = open_pairs(many(root, draw))
    assert 40 <= len(pairs.held) <= 50  # at least 50 are asked for, whole groups only
    assert len(pairs) + len(pairs.held) == 300
    assert not {t for own in pairs.captions for t in own} & {t for own in pairs.held_captions for t in own}
    assert pairs.held_groups().codes[0] == (0,)
    assert keys(pairs.held)[0] in {f"many/{i}.png" for i in range(300)}
    backwards = open_pairs(many(root, draw, list(range(300))[::-1]))
    assert set(keys(backwards.held)) == set(keys(pairs.held))
    assert set(keys(backwards.subset(60, 1).split)) == set(keys(pairs.subset(60, 1).split))
    other = open_pairs(many(root, draw), PairOptions(seed=1))
    assert set(keys(other.held)) != set(keys(pairs.held))
    assert len(open_pairs(many(root, draw), PairOptions(held=0)).held) == 0
    assert 55 <= len(open_pairs(many(root, draw), PairOptions(held=0.2)).held) <= 60


def test_subsets_are_nested_keyed_and_the_same_before_and_after_opening(root: Path, draw: Draw) -> None:
    pairs = open_pairs(many(root, draw))
    large, small = pairs.subset(120, 5), pairs.subset(60, 5)
    assert (len(large), len(small)) == (120, 60)
    assert set(keys(small.split)) < set(keys(large.split)) < set(keys(pairs.split))
    assert small.held == pairs.held
    assert [r.label for r in small.split.records] == list(range(60))
    told = dict(zip(keys(pairs.split), pairs.captions, strict=True))
    assert small.captions == tuple(told[key] for key in keys(small.split))
    assert set(keys(pairs.subset(60, 6).split)) != set(keys(small.split))
    seen: list[tuple[str, int, int]] = []
    early = open_pairs(many(root, draw), PairOptions(pairs=60, seed=0), lambda *said: seen.append(said))
    assert keys(early.split) == keys(pairs.subset(60, 0).split)
    assert seen[-1] == ("check", 60 + len(pairs.held), 60 + len(pairs.held))  # no other picture was opened
    everything = pairs.subset(10_000, 0)
    assert everything.split == pairs.split
    assert "10,000 pairs asked" in everything.audit.text()
    with pytest.raises(UsageError, match="at least 1"):
        pairs.subset(0, 0)


def test_copies_share_their_captions_and_none_is_both_held_and_trained_on(root: Path, draw: Draw) -> None:
    source, _ = csv_file(root)
    draw(0).save(root / "pics" / "d.png")  # now the cat's picture is the fox's
    pairs = open_pairs(source)
    assert pairs.kin == (0, 1, 2, 0)
    assert pairs.groups().group_U.tolist() == [0, 0, 1, 1, 0]
    assert "1 pictures are copies" in pairs.audit.text()
    source = many(root, draw)
    held = keys(open_pairs(source).held)[0]
    for i in range(300):
        if f"many/{i}.png" not in keys(open_pairs(source).held):
            (root / "many" / f"{i}.png").write_bytes((root / held).read_bytes())
            break
    pairs = open_pairs(source)
    assert held in keys(pairs.held)
    assert pairs.audit.duplicates == [(f"many/{i}.png", held)]
    assert f"many/{i}.png" not in keys(pairs.split)


def test_class_folders_become_captions_by_templates(plant: Callable[..., Path]) -> None:
    photos = plant("photos", snow_fox=40, bear=40)
    templates = ("a {}", "the {} itself")
    pairs = open_pairs(photos, PairOptions(templates=templates))
    data = Dataset.open(photos)
    assert set(keys(pairs.split)) | set(keys(pairs.held)) == set(keys(data.train))
    for record, own, kin in zip(pairs.split.records, pairs.captions, pairs.kin, strict=True):
        name = {"snow_fox": "snow fox", "bear": "bear"}[record.path.parent.name]
        assert own == (f"a {name}", f"the {name} itself")
        assert kin == data.classes.names.index(name)
    texts = pairs.groups()
    assert sorted(texts.texts[u] for u in np.flatnonzero(texts.group_U == texts.group_U[0])) == sorted(
        pairs.captions[0]
    )
    assert len(pairs.held) == len(data.train) // 5  # at least 50 are asked for, at most a fifth
    assert set(pairs.kin) == {0, 1}
    assert from_classes(data, templates).digest == pairs.digest
    assert from_classes(data).captions[0] == tuple(
        t.replace("{}", data.classes.names[pairs.kin[0]]) for t in data.templates
    )
    assert len(open_pairs(photos, PairOptions(pairs=10))) == 10


def test_no_class_is_held_whole_and_groups_stay_together(plant: Callable[..., Path]) -> None:
    folders = {f"class{i}": 8 for i in range(12)}
    photos = plant("photos", **folders)
    path = photos.parent / "labels.csv"
    lines = [f"photos/{c}/{i}.png,{c},{c}-{i // 2}" for c in folders for i in range(8)]
    path.write_text("image,label,group\n" + "\n".join(lines))
    data = Dataset.open(path, options=PairOptions().source)
    pairs = from_classes(data)
    assert set(pairs.kin) == {r.label for r in data.train.records}
    assert not {r.group for r in pairs.split.records} & {r.group for r in pairs.held.records}
    names = [f"class {i}" for i in range(60)]
    lone = tuple(Record(f"{i}", i // 2, path, i) for i in range(120))
    few = Dataset("few", ClassTable.of(names), Split("train", "train", lone), Split("select", "select", ()), [])
    pairs = from_classes(few)
    assert len(pairs.held) == 24
    assert set(pairs.kin) == set(range(60))


# -- what is wrong ---------------------------------------------------------------------------------------------


def refused(source: Path | str, code: str, *words: str, **options: Any) -> None:
    with pytest.raises(LikewiseError) as caught:
        open_pairs(source, PairOptions(**options))
    assert caught.value.code == code, caught.value
    for word in words:
        assert word in str(caught.value), caught.value


def test_tables_without_captions_or_with_blank_ones(root: Path, draw: Draw) -> None:
    source, _ = csv_file(root)
    text = Path(source).read_text()
    Path(source).write_text(text.replace("caption", "captoin", 1))
    refused(source, "D05", "no column for the caption", "Did you mean captoin?", "--caption-col NAME")
    refused(source, "D05", "«says»", "Columns: filepath, captoin", caption_col="says")
    Path(source).write_text(text.replace("a cat", " ").replace("two dogs", ""))
    refused(source, "D13", "3 of 6 rows", "first: number 3 (pics/b.png)", "--caption-col", "--max-bad 0.50")
    kept = open_pairs(source, PairOptions(max_bad=0.5))
    assert kept.captions == (FOUR["a"], ("a dog and a friend",))
    assert "3 of 6 rows" in kept.audit.text()
    refused(source, "D13", max_bad=0.5, on_bad_image="error")
    Path(source).write_text("filepath,caption\npics/a.png,\n")
    refused(source, "D13", "1 of 1 rows")
    pq.write_table(pa.table({"path": ["pics/a.png"], "captions": [[1, 2]]}), root / "numbers.parquet")
    refused(root / "numbers.parquet", "D05", "holds no text")


def test_learned_words_cannot_be_smuggled_in_and_white_space_is_single(root: Path) -> None:
    (root / "odd.csv").write_text('image,caption\npics/a.png,"a\U000f0000  red\n\tfox\U0010fffd"\n', encoding="utf-8")
    assert open_pairs(root / "odd.csv").captions == (("a red fox",),)


def test_missing_pictures_are_counted_and_the_folder_that_has_them_is_named(root: Path) -> None:
    source, options = coco(root)
    refused(
        source, "D06", "4 of 4", "first: a.png, b.png, c.png and 1 more", "--image-root", f"it is in {root / 'pics'}"
    )
    (root / "pics" / "b.png").unlink()
    refused(source, "D06", "1 of 4", "first: b.png", image_root=options.image_root)
    kept = open_pairs(source, PairOptions(image_root=options.image_root, max_bad=0.25))
    assert kept.captions == (FOUR["a"], FOUR["c"], FOUR["d"])
    assert kept.audit.bad == [("b.png", "No such file or directory")]
    (root / "pics" / "c.png").write_bytes(b"no picture")
    with pytest.raises(AuditError, match="cannot be read"):
        open_pairs(source, PairOptions(image_root=options.image_root, max_bad=0.25))
    (root / "long.csv").write_text(f"image,caption\n{'x' * 5000},a cat\n")
    refused(root / "long.csv", "D06", "1 of 1")


def test_json_that_is_not_coco_captions(root: Path) -> None:
    path = root / "pairs.json"
    image = {"id": 1, "file_name": "pics/a.png"}
    note = {"image_id": 1, "caption": "a fox"}
    for tree, code, words in (
        ([{"image": "a.png"}], "D14", "it is a list"),
        ({"images": [image], "data": 1}, "D14", "no list «annotations», but images, data"),
        ({"images": [{"id": 1}], "annotations": []}, "D14", "entry 1 of «images» has no «file_name»"),
        (
            {"images": [image], "annotations": [note, {"caption": "x"}]},
            "D14",
            "entry 2 of «annotations» has no «image_id»",
        ),
        ({"images": [image], "annotations": [{"image_id": 1, "bbox": []}]}, "D14", "no «caption», but bbox, image_id"),
        ({"images": [], "annotations": []}, "D15", "lists no pictures"),
        ({"images": [image], "annotations": []}, "D13", "none of the 1 pictures"),
        ({"images": [image], "annotations": [{"image_id": 2, "caption": "x"}]}, "D13", "none of the 1"),
        ({"images": [image], "annotations": [{"image_id": 1, "caption": ""}]}, "D13", "1 of 1 annotations"),
    ):
        path.write_text(json.dumps(tree))
        refused(path, code, words)
    path.write_text('{"images": [')
    refused(path, "D14", "not readable JSON")
    path.write_text(
        json.dumps(
            {"images": [image, {"id": 2, "file_name": "pics/b.png"}], "annotations": [note, {**note, "image_id": 9}]}
        )
    )
    pairs = open_pairs(path)
    assert pairs.captions == (("a fox",),)
    assert "1 of 2 pictures" in pairs.audit.text()
    assert "1 captions" in pairs.audit.text()


def test_shards_without_pictures_or_captions_or_whole_bytes(root: Path) -> None:
    picture = (root / "pics" / "a.png").read_bytes()
    refused(
        shard(root / "x.tar", {"a.png": picture, "a.cls": b"3"}),
        "D13",
        "1 pictures and no captions (found .png 1, .cls 1)",
    )
    refused(shard(root / "x.tar", {"a.json": b'{"caption": "x"}'}), "D15", "no pictures in the shards (found .json 1)")
    path = shard(root / "x.tar", {"a.png": picture, "a.txt": b"a fox", "b.png": picture})
    refused(path, "D13", "1 of 2 samples", "first: number 2 (x.tar/b)", "key.txt")
    path = shard(root / "x.tar", {"a.png": picture, "a.json": b'{"alt": "a fox"}', "b.txt": b"astray"})
    refused(path, "D13", "no captions")
    pairs = open_pairs(path, PairOptions(caption_col="alt"))
    assert pairs.captions == (("a fox",),)
    assert "1 captions" in pairs.audit.text()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(picture) // 2])
    refused(path, "D14", "cannot be read as an uncompressed tar")
    path.write_bytes(whole[:-1].replace(b"b.txt", b"c.txt"))  # the header's checksum is now wrong
    refused(path, "D14", "damaged from byte")
    with tarfile.open(root / "x.tar.gz", "w:gz") as tar:
        tar.add(root / "pics")
    refused(root / "x.tar.gz", "D01", "not compressed")
    (root / "x.tar.gz").rename(path)
    refused(path, "D14", "gunzip")


def test_names_in_a_shard_are_never_paths(root: Path, draw: Draw) -> None:
    """Links, devices, absolute and climbing names, control characters, bytes that are no text, very long names."""
    pictures = {"../../up": 0, "/etc/passwd": 1, "new\n\x1b[31mline": 2, "n" * 300: 3}
    folder = root / "in"
    folder.mkdir()
    with tarfile.open(folder / "x.tar", "w", format=tarfile.GNU_FORMAT) as tar:
        for kind, link in (
            (tarfile.SYMTYPE, "/etc/passwd"),
            (tarfile.LNKTYPE, "new"),
            (tarfile.FIFOTYPE, ""),
            (tarfile.DIRTYPE, ""),
        ):
            about = tarfile.TarInfo("special.png")
            about.type, about.linkname = kind, link
            tar.addfile(about)
        for name, number in pictures.items():
            for ending, data in (("txt", f"text {number}".encode()), ("png", png(draw(number)))):
                about = tarfile.TarInfo(f"{name}.{ending}")
                about.size = len(data)
                tar.addfile(about, io.BytesIO(data))
        about = tarfile.TarInfo("bad\udcff.png")
        about.size = len(png(draw(4)))
        tar.addfile(about, io.BytesIO(png(draw(4))))
        tar.addfile(tarfile.TarInfo("some/.png"))
    with tarfile.open(folder / "x.tar") as tar:
        assert len(tar.getmembers()) == 14
    pairs = open_pairs(folder / "x.tar", PairOptions(max_bad=0.2))
    assert pairs.captions == tuple((f"text {i}",) for i in range(4))
    assert [pairs.split.open(i).tobytes() for i in range(4)] == [draw(i).tobytes() for i in range(4)]
    assert [p.name for p in folder.iterdir()] == ["x.tar"]
    assert "not a file" in attempt(folder / "x.tar", 0)[1]  # the place of the link
    assert all(record.key.isprintable() and record.key.encode() for record in pairs.split.records)
    # one that has changed since is not read at the old places
    shard(folder / "x.tar", {"other.png": png(draw(9)), "a.txt": b"x" * 9000})
    with pytest.raises(DataError, match=r"x\.tar"):
        pairs.split.open(3)


def test_plain_text_beside_pictures_is_the_caption(root: Path) -> None:
    picture = (root / "pics" / "a.png").read_bytes()
    path = shard(
        root / "cc.tar", {"0.JPG": picture, "0.txt": b" a fox \n", "0.json": b'{"caption": "a fox"}', "0.seg.png": b"x"}
    )
    assert open_pairs(path).captions == (("a fox",),)


def test_patterns_and_paths_that_are_not_there(root: Path) -> None:
    for number in ("0", "1"):
        shard(root / f"s{number}.tar", samples(root, "ab" if number == "0" else "cd"))
    assert open_pairs(f"{root}/s{{0,1}}.tar").captions == tuple(FOUR.values())
    assert open_pairs(f"{root}/s*.tar").captions == tuple(FOUR.values())
    refused(f"{root}/s{{0..3}}.tar", "D01", "2 of the 4 files", "s2.tar")
    refused(f"{root}/t{{0..3}}.tar", "D01", "not found")
    refused(f"{root}/s{{0..999999999999}}{{0..9}}.tar", "D01", "more than 100,000")
    refused(root / "s0.tarr", "D01", "Did you mean s0.tar")
    (root / "pairs.txt").write_text("a fox")
    refused(root / "pairs.txt", "D01", "hf-datasets:NAME")
    (root / "empty").mkdir()
    refused(root / "empty", "D02")
    (root / "empty" / "pairs.csv").write_text("image,caption\n")
    refused(root / "empty", "D02", "pass a file in it: pairs.csv")
    refused(root / "pics", "D02", "pics holds 4 images but no class folders. Captions come from a table",
            f"likewise caption pairs.csv --image-root {root / 'pics'}")  # fmt: skip
    with pytest.raises(DataError) as caught:
        open_pairs(root / "pics")
    assert "adapt" not in str(caught.value)


@pytest.mark.filterwarnings("ignore")
def test_hugging_face_datasets_by_name_and_what_they_lack(
    root: Path, draw: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = pytest.importorskip("datasets")
    source, _ = saved_dataset(root)
    saved = library.load_from_disk(source)
    asked: list[Any] = []
    monkeypatch.setattr(library, "load_dataset", lambda *name: asked.append(name) or saved)
    pairs = open_pairs("hf-datasets:someone/foxes:large")
    assert asked == [("someone/foxes", "large")]
    assert (pairs.name, pairs.captions) == ("foxes", tuple(FOUR.values()))
    monkeypatch.setattr(library, "load_dataset", lambda *name: saved["train"].select([3, 1]))
    refused("hf-datasets:foxes", "D14", "save_to_disk")
    plain = library.Dataset.from_dict({"text": ["a fox"], "number": [1]})
    plain.save_to_disk(root / "plain")
    refused(root / "plain", "D15", "no column of pictures", "Columns: text, number")
    refused(source, "D05", "«number»", caption_col="number")
    library.DatasetDict({"a": plain, "b": plain}).save_to_disk(root / "two")
    refused(root / "two", "D14", "splits a, b")
    (root / "plain" / "state.json").write_text("{")
    refused(root / "plain", "D14", "Save it again")
    monkeypatch.setattr("importlib.import_module", lambda name: (_ for _ in ()).throw(ImportError(name)))
    with pytest.raises(MachineError, match=r"likewise\[hf\]"):
        open_pairs(source)


@pytest.mark.filterwarnings("ignore")
def test_a_saved_dataset_may_hold_paths_instead_of_pictures(root: Path, draw: Draw) -> None:
    library = pytest.importorskip("datasets")
    schema = pa.schema({"image": pa.struct({"bytes": pa.binary(), "path": pa.string()}), "text": pa.string()})
    images = [{"bytes": png(draw(0)), "path": None}, {"bytes": None, "path": str(root / "pics" / "b.png")}]
    table = pa.table({"image": images, "text": ["a", "b"]}, schema=schema)
    library.Dataset(table).save_to_disk(root / "mixed")
    pairs = open_pairs(root / "mixed")
    assert [pairs.split.open(i).tobytes() for i in range(2)] == [draw(i).tobytes() for i in range(2)]


def test_captions_over_the_context_length() -> None:
    texts = ["short", "rather long", "the longest of all"]
    assert check_captions(texts, [3, 77, 77], 77) == []
    (finding,) = check_captions(texts, [3, 78, 91], 77)
    assert finding.code == "D11"
    assert finding.message.startswith("2 of 3 different captions exceed the 77 tokens")
    assert "longest has 91: «the longest of all»" in finding.message
    with pytest.raises(DataError, match="none is read whole") as caught:
        check_captions(texts, [78, 79, 80], 77)
    assert caught.value.code == "D11"


def test_parts_that_do_not_agree_are_refused(root: Path) -> None:
    pairs = open_pairs(csv_file(root)[0])
    nobody = Split("held", "report", ())
    for split, captions, kin in (
        (pairs.split, pairs.captions[:3], pairs.kin),
        (pairs.split, (*pairs.captions[:3], ()), pairs.kin),
        (pairs.split, pairs.captions, (0,)),
        (pairs.split.subset([1, 0, 2, 3]), pairs.captions, pairs.kin),
        (Split("x", "report", pairs.split.records), pairs.captions, pairs.kin),
    ):
        with pytest.raises(UsageError, match="needs"):
            Pairs("x", split, captions, kin, nobody, ())
