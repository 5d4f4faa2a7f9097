"""What shapes a picture and what does not, through a whole text-to-image graph."""

from __future__ import annotations

import io

from PIL import Image

from nightkiln.testing.comfyui.peer import Peer, Run
from nightkiln.testing.comfyui.samples import text_to_image


def pixels(comfyui: Peer, run: Run) -> list[tuple[tuple[int, int], bytes]]:
    found = []
    for place in run.outputs["7"]["images"]:
        with Image.open(io.BytesIO(comfyui.view(place).content)) as picture:
            found.append((picture.size, picture.tobytes()))
    return found


def test_the_same_graph_gives_the_same_pixels_after_everything_was_forgotten(
    comfyui: Peer,
) -> None:
    first = comfyui.run(text_to_image(comfyui.checkpoint))
    comfyui.http.post("/free", json={"unload_models": True, "free_memory": True})

    again = comfyui.run(text_to_image(comfyui.checkpoint))

    assert again.of("execution_cached")[0]["nodes"] == []
    assert pixels(comfyui, again) == pixels(comfyui, first)


def test_text_seed_and_size_shape_the_picture(comfyui: Peer) -> None:
    checkpoint = comfyui.checkpoint
    graphs = [
        text_to_image(checkpoint),
        text_to_image(checkpoint, text="a quite different thing"),
        text_to_image(checkpoint, seed=2),
        text_to_image(checkpoint, side=32),
    ]

    [plain, text, seed, size] = [pixels(comfyui, comfyui.run(graph))[0] for graph in graphs]

    assert len({plain[1], text[1], seed[1], size[1]}) == 4
    assert [picture[0] for picture in (plain, text, seed, size)] == [(64, 64)] * 3 + [(32, 32)]


def test_a_batch_gives_as_many_different_pictures(comfyui: Peer) -> None:
    run = comfyui.run(text_to_image(comfyui.checkpoint, seed=3, side=32, batch=3))

    assert len({picture for _, picture in pixels(comfyui, run)}) == 3


def test_another_seed_leaves_model_and_texts_in_the_cache(comfyui: Peer) -> None:
    comfyui.run(text_to_image(comfyui.checkpoint, seed=4, side=32))

    again = comfyui.run(text_to_image(comfyui.checkpoint, seed=5, side=32))

    assert sorted(again.of("execution_cached")[0]["nodes"]) == ["1", "2", "3", "4"]
