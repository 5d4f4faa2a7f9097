"""What a server tells about itself."""

from __future__ import annotations

import pytest

from nightkiln.nodes import compact, stock_definitions
from nightkiln.testing.comfyui.peer import Peer
from nightkiln.testing.comfyui.samples import image, save


def test_the_stock_definitions_are_those_of_the_server(comfyui: Peer) -> None:
    told = compact(comfyui.http.get("/object_info").json())
    stock = stock_definitions()

    assert stock.keys() <= told.keys()
    different = {name for name in stock if told[name] != stock[name]}
    for name in different:
        for section, inputs in stock[name]["input"].items():
            for key, (kind, facts) in inputs.items():
                # Only a list of files may differ, for it is the machine's.
                assert kind == [] or told[name]["input"][section][key] == [kind, facts]


def test_a_class_is_told_by_itself_and_an_unknown_one_is_nothing(comfyui: Peer) -> None:
    everything = comfyui.http.get("/object_info").json()

    one = comfyui.http.get("/object_info/SaveImage").json()

    assert one == {"SaveImage": everything["SaveImage"]}
    assert set(one["SaveImage"]) >= {
        "input",
        "input_order",
        "output",
        "output_is_list",
        "output_name",
        "name",
        "display_name",
        "description",
        "python_module",
        "category",
        "output_node",
    }
    reply = comfyui.http.get("/object_info/Nope")
    assert (reply.status_code, reply.json()) == (200, {})


def test_the_models_can_be_listed(comfyui: Peer) -> None:
    folders = comfyui.http.get("/models").json()

    assert {"checkpoints", "loras", "vae", "text_encoders", "diffusion_models"} <= set(folders)
    assert comfyui.checkpoint in comfyui.http.get("/models/checkpoints").json()
    assert comfyui.http.get("/models/loras").json() == []
    assert comfyui.http.get("/models/nonsense").status_code == 404
    assert comfyui.http.get("/embeddings").json() == []


def test_the_system_is_described(comfyui: Peer) -> None:
    stats = comfyui.http.get("/system_stats").json()

    assert set(stats) == {"system", "devices"}
    assert set(stats["system"]) == {
        "os",
        "ram_total",
        "ram_free",
        "comfyui_version",
        "required_frontend_version",
        "installed_templates_version",
        "required_templates_version",
        "python_version",
        "pytorch_version",
        "embedded_python",
        "argv",
    }
    assert stats["system"]["comfyui_version"] == "0.3.75"
    assert set(stats["devices"][0]) == {
        "name",
        "type",
        "index",
        "vram_total",
        "vram_free",
        "torch_vram_total",
        "torch_vram_free",
    }


def test_the_features_are_told(comfyui: Peer) -> None:
    features = comfyui.http.get("/features").json()

    assert features["supports_preview_metadata"] is True
    assert features["max_upload_size"] == 100 * 1024 * 1024


@pytest.mark.parametrize(
    "path", ["/prompt", "/queue", "/models", "/features", "/system_stats", "/embeddings"]
)
def test_every_path_is_also_there_under_api(comfyui: Peer, path: str) -> None:
    plain, prefixed = comfyui.http.get(path), comfyui.http.get(f"/api{path}")

    assert prefixed.status_code == plain.status_code == 200
    assert prefixed.headers["content-type"] == "application/json; charset=utf-8"
    assert type(prefixed.json()) is type(plain.json())


def test_a_path_that_is_not_there_is_not_found(comfyui: Peer) -> None:
    assert comfyui.http.get("/nonsense").status_code == 404
    assert comfyui.http.post("/system_stats").status_code == 405


def test_a_prompt_can_be_followed_under_api(comfyui: Peer) -> None:
    prompt_id = comfyui.run({"1": image(), "2": save()}).prompt_id

    entry = comfyui.http.get(f"/api/history/{prompt_id}").json()[prompt_id]
    [place] = entry["outputs"]["2"]["images"]

    assert comfyui.http.get("/api/view", params=place).content.startswith(b"\x89PNG")
