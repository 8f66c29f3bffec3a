from __future__ import annotations

import numpy as np

from likewise.data.order import choose, pairs, permutation
from likewise.keys import key_hash, key_rng


def test_permutation_is_a_function_of_seed_and_epoch_and_moves_no_global_state() -> None:
    before = np.random.get_state()[1].copy()  # type: ignore[index]
    assert sorted(permutation(0, 3, 50).tolist()) == list(range(50))
    assert permutation(0, 3, 50).tolist() == permutation(0, 3, 50).tolist()
    assert permutation(0, 3, 50).tolist() != permutation(0, 4, 50).tolist()
    assert permutation(0, 3, 50).tolist() != permutation(1, 3, 50).tolist()
    assert (np.random.get_state()[1] == before).all()  # type: ignore[index]


def test_permutation_is_the_same_on_every_machine() -> None:
    assert permutation(0, 0, 8).tolist() == [0, 5, 3, 2, 6, 4, 1, 7]


def test_numpy_and_python_integers_are_one_key_and_words_are_not_numbers() -> None:
    assert key_hash(np.int64(3), "a") == key_hash(3, "a")
    assert key_hash("3", "a") != key_hash(3, "a")
    assert key_rng(np.int64(3)).integers(1 << 40) == key_rng(3).integers(1 << 40)


def test_choice_of_template_does_not_depend_on_the_rest_of_the_batch() -> None:
    ids = np.arange(200)
    whole = choose(1, 2, ids, 5)
    shuffled = np.random.Generator(np.random.PCG64(0)).permutation(200)
    assert (choose(1, 2, ids[shuffled], 5) == whole[shuffled]).all()
    assert set(whole.tolist()) == set(range(5))
    assert (choose(1, 3, ids, 5) != whole).any()


def test_a_pass_of_pairs_visits_every_image_with_every_template_once() -> None:
    images, templates, batch = 7, 3, 4
    per_pass = 6  # 21 rows in batches of 4: five full ones and one of 1
    rows_B, _ = pairs(0, 2, batch, images * templates, 1)  # with one template a row is an image
    image_B, template_B = pairs(0, 2, batch, images, templates)
    assert (image_B * templates + template_B).tolist() == rows_B.tolist()
    sizes, seen = [], []
    for step in range(per_pass):
        image_B, template_B = pairs(0, step, batch, images, templates)
        sizes.append(len(image_B))
        seen += list(zip(image_B.tolist(), template_B.tolist(), strict=True))
    assert sizes == [4, 4, 4, 4, 4, 1]
    assert sorted(seen) == [(i, t) for i in range(images) for t in range(templates)]
    again = [pairs(0, step, batch, images, templates)[0].tolist() for step in range(per_pass, 2 * per_pass)]
    assert again != [pairs(0, step, batch, images, templates)[0].tolist() for step in range(per_pass)]


def test_share_of_images_seen_in_one_epoch_of_pairs_is_the_closed_form() -> None:
    images, templates, batch = 2000, 4, 50
    seen = np.concatenate([pairs(0, step, batch, images, templates)[0] for step in range(images // batch)])
    # an image is missed when none of its T rows is among the first 1/T of all rows
    assert abs(len(set(seen.tolist())) / images - (1 - (1 - 1 / templates) ** templates)) < 0.03
