"""gaugan.layouts: five layouts of public datasets are found, paired by name, and refused when something is missing."""

from pathlib import Path

import pytest
from dataset_toys import write_ade20k, write_cityscapes, write_coco, write_custom, write_facades

from gaugan.errors import UserError
from gaugan.labels import ClassTable
from gaugan.layouts import LAYOUTS, Search, find_triples


def ids(layout: str, search: Search, split: str) -> list[str]:
    return [triple.id for triple in find_triples(layout, search) if triple.split == split]


def test_coco_has_train_and_val_in_natural_order_with_portraits_and_instances(tmp_path: Path) -> None:
    search = Search(write_coco(tmp_path))
    assert ids("coco", search, "held_out") == ["val_img/0.jpg", "val_img/1.jpg"]
    assert ids("coco", search, "train") == [
        "train_img/8.jpg", "train_img/9.jpg", "train_img/10.jpg", "train_img_portrait/0.jpg"
    ]  # fmt: skip
    for triple in find_triples("coco", search):
        name = triple.image.path.removesuffix(".jpg")
        assert triple.label_map.path == f"{name}.png" and triple.instance_map is not None
        assert triple.instance_map.path == f"{name}.png" and "_inst" in triple.instance_map.uri


def test_portraits_and_instances_can_be_left_aside(tmp_path: Path) -> None:
    root = write_coco(tmp_path, instances=False)
    with pytest.raises(UserError, match="(?s)--no-instances.*no file of that name in train_inst"):
        find_triples("coco", Search(root))
    found = find_triples("coco", Search(root, instances=False, portraits=False))
    assert len(found) == 5 and all(triple.instance_map is None for triple in found)


def test_ade20k_is_one_tree_told_apart_by_the_names(tmp_path: Path) -> None:
    root = write_ade20k(tmp_path)
    assert ids("ade20k", Search(root), "train") == [f"images/ADE_train_0000000{number}.jpg" for number in (0, 1)]
    assert ids("ade20k", Search(root), "held_out") == ["images/ADE_val_00000002.jpg"]
    assert LAYOUTS["ade20k"].shift == 1 and LAYOUTS["ade20k"].dontcare == "extra"


def test_cityscapes_is_paired_by_the_first_three_parts_of_a_name(tmp_path: Path) -> None:
    found = find_triples("cityscapes", Search(write_cityscapes(tmp_path)))
    assert [triple.split for triple in found] == ["train", "train", "held_out"]
    assert found[0].id == "leftImg8bit/train/ulm/ulm_000000_000019_leftImg8bit.png"
    assert found[0].label_map.uri.endswith("ulm_000000_000019_gtFine_labelIds.png")
    assert found[0].instance_map and found[0].instance_map.uri.endswith("_gtFine_instanceIds.png")


def test_facades_has_no_instances(tmp_path: Path) -> None:
    found = find_triples("facades", Search(write_facades(tmp_path)))
    assert [triple.split for triple in found] == ["train", "train", "held_out"] and found[0].instance_map is None


def test_custom_takes_any_folders_and_holds_a_share_out(tmp_path: Path) -> None:
    write_custom(tmp_path)
    search = Search(str(tmp_path), "images", "labels", "instances", held_out=0.4)
    assert len(ids("custom", search, "train")) == 3 and len(ids("custom", search, "held_out")) == 2
    elsewhere = Search("", str(tmp_path / "images"), str(tmp_path / "labels"), held_out=0.4)
    assert [t.id for t in find_triples("custom", elsewhere)] == [t.id for t in find_triples("custom", search)]
    assert find_triples("custom", elsewhere)[0].instance_map is None


def test_every_file_without_a_partner_is_listed(tmp_path: Path) -> None:
    root = write_coco(tmp_path, portraits=0)
    (tmp_path / "train_label" / "9.png").unlink()
    (tmp_path / "train_img" / "10.jpg").unlink()
    with pytest.raises(UserError) as refusal:
        find_triples("coco", Search(root))
    text = str(refusal.value)
    assert "train_img/9.jpg: no file of that name in train_label" in text
    assert "train_label/10.png: no file of that name in train_img" in text and "4 file(s) without a partner" in text


@pytest.mark.parametrize("layout", ["coco", "ade20k", "cityscapes", "facades"])
def test_an_empty_folder_is_refused_with_what_was_expected(layout: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--root .*(expected|named)"):
        find_triples(layout, Search(str(tmp_path)))


def test_custom_without_its_folders_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs --image-dir and --label-dir"):
        find_triples("custom", Search(str(tmp_path)))
    with pytest.raises(UserError, match="nowhere: no such folder"):
        find_triples("custom", Search(str(tmp_path), "nowhere", "labels"))


def test_two_pictures_that_differ_in_their_extension_only_are_refused(tmp_path: Path) -> None:
    root = write_custom(tmp_path)
    (tmp_path / "images" / "0.jpg").write_bytes(b"")
    with pytest.raises(UserError, match="0.jpg and 0.png are both named '0'"):
        find_triples("custom", Search(root, "images", "labels"))


@pytest.mark.parametrize(("name", "count"), [("coco", 182), ("ade20k", 150), ("cityscapes", 35), ("facades", 13)])
def test_each_public_dataset_brings_its_class_table(name: str, count: int) -> None:
    table = ClassTable.load(name)
    assert table.num_classes == count and table.name == name
    first = {"coco": "person", "ade20k": "wall", "cityscapes": "unlabeled", "facades": "unlabelled"}
    assert table.names[0] == first[name] and table.ids[{"coco": "wood"}.get(name, table.names[-1])] == count - 1
