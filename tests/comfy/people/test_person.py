"""One person: what the nodes make of photos and files gives the latents of the photos, to the bit."""

import os
import re
import shutil
import sys

import cv2
import folder_paths
import numpy as np
import pytest
import safetensors.torch
import torch
from instantid_swift import caches
from instantid_swift.faces import NoFaceError
from instantid_swift.keypoints import KeypointFace, Keypoints
from instantid_swift.options.nodes import Options
from instantid_swift.people import files
from instantid_swift.people.nodes import preview_of
from instantid_swift.utils import InstantIDError
from oracle import cases
from oracle import fixtures as fx
from photos import read_image
from wiring.people import apply_people, apply_person, people_of

STEPS = {"steps": 2, "size": (8, 8)}
PHOTOS = ("a", "b")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder of saved people, and another one that extra_model_paths.yaml would name."""
    folders = tmp_path / "people", tmp_path / "more"
    for path in folders:
        path.mkdir()
    extensions = folder_paths.folder_names_and_paths["instantid_people"][1]
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "instantid_people", (list(map(str, folders)), extensions))
    return folders


def person_of(nodes, world, *names, **over):
    """The PERSON of portraits, from the node."""
    shown = cases.call(nodes, "InstantIDPerson", insightface=world.analysis, image=cases.faces(*names or PHOTOS), **over)
    return shown["result"][0]


def save(nodes, person, name, **over):
    """What InstantIDSavePerson returns."""
    return nodes["InstantIDSavePerson"]().save(person, name, **over)


def latents(applied, **over):
    return fx.sample(*applied, **{**STEPS, **over})


SETTINGS = {
    "defaults": {},
    "norm average, noise, mask, strengths": {"combine_embeds": "norm average", "noise": 0.3, "mask": cases.left_half(),
                                             "ip_weight": 1.1, "cn_strength": 0.3},
    "concat in a window": {"combine_embeds": "concat", "start_at": 0.2, "end_at": 0.7},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_a_person_saved_and_loaded_gives_the_latents_of_the_photos(nodes, world, folder, settings):
    saved = save(nodes, person_of(nodes, world), "Anna", keep_crops=False)
    assert saved["ui"]["text"] == ("Saved as Anna.safetensors.",)
    loaded, = cases.call(nodes, "InstantIDLoadPerson", person="Anna.safetensors")["result"]
    expected = latents(cases.advanced(nodes, world, image=cases.faces(*PHOTOS), **settings))
    assert torch.equal(latents(apply_person(nodes, world, loaded, **settings)), expected)
    assert expected.isfinite().all()


def test_drawn_keypoints_are_used_as_they_are(nodes, world):
    drawn, = cases.call(nodes, "FaceKeypointsPreprocessor", faceanalysis=world.analysis, image=fx.portrait("d"))
    expected = latents(cases.advanced(nodes, world, image=cases.faces(*PHOTOS), image_kps=drawn))
    assert torch.equal(latents(apply_person(nodes, world, person_of(nodes, world), image_kps=drawn)), expected)


def test_a_list_of_one_gives_the_latents_of_apply_advanced(nodes, world):
    settings = {"ip_weight": 1.1, "cn_strength": 0.3, "start_at": 0.2, "end_at": 0.7}
    people = people_of(nodes, {"person": person_of(nodes, world), **settings})
    expected = latents(cases.advanced(nodes, world, image=cases.faces(*PHOTOS), noise=0.2, **settings))
    assert torch.equal(latents(apply_people(nodes, world, people, noise=0.2)), expected)


@pytest.mark.newest
def test_options_reach_the_photos_and_the_blocks(nodes, world):
    options = Options(blocks="all 70")
    expected = latents(cases.advanced(nodes, world, image=fx.portrait("a"), options=options))
    person = person_of(nodes, world, "a", options=options)
    assert torch.equal(latents(apply_person(nodes, world, person, options=options)), expected)
    assert not torch.equal(latents(apply_person(nodes, world, person)), expected)


@pytest.mark.newest
def test_keypoints_replace_the_photos(nodes, world):
    person = person_of(nodes, world, "a")
    own = Keypoints(320, 320, (KeypointFace(person.points[0].numpy()),))
    moved = own._replace(faces=(KeypointFace(person.points[0].numpy() + 60),))
    without, there, elsewhere = (
        latents(apply_people(nodes, world, people_of(nodes, {"person": person, "keypoints": keypoints})))
        for keypoints in (None, own, moved))
    assert torch.equal(there, without) and not torch.equal(elsewhere, without)


@pytest.mark.newest
def test_a_list_of_photos_of_different_sizes_makes_a_person(nodes, world):
    """A photo without a face is left out, and the embedder is named."""
    small = torch.nn.functional.interpolate(fx.portrait("b").movedim(-1, 1), size=(256, 256), mode="bilinear").movedim(1, -1)
    photos = [fx.portrait("a"), torch.zeros(1, 64, 80, 3), small]
    person = cases.call(nodes, "InstantIDPerson", insightface=world.analysis, image=photos)["result"][0]
    alone = [cases.call(nodes, "InstantIDPerson", insightface=world.analysis, image=photo)["result"][0]
             for photo in photos[::2]]
    assert person.sizes.tolist() == [[320, 320], [256, 256]] and person.photos == 2
    assert person.embedder == "antelopev2/w600k_mbf.onnx"
    assert person.crops.shape == (2, 112, 112, 3) and person.crops.dtype == torch.uint8 and person.crops.float().std() > 10
    assert torch.equal(person.embeddings, torch.cat([one.embeddings for one in alone]))
    assert torch.equal(person.points, torch.cat([one.points for one in alone]))
    with pytest.raises(NoFaceError):
        cases.call(nodes, "InstantIDPerson", insightface=world.analysis, image=[photos[1]])


@pytest.mark.newest
def test_other_networks_than_antelopev2_are_refused(nodes, tmp_path, face_root):
    from insightface.app import FaceAnalysis
    shutil.copytree(face_root / "models" / "antelopev2", tmp_path / "models" / "buffalo_s")
    other = FaceAnalysis(name="buffalo_s", root=str(tmp_path), providers=["CPUExecutionProvider"])
    other.prepare(ctx_id=0)
    with pytest.raises(InstantIDError, match="the networks buffalo_s, and InstantID's adapter was trained with antelopev2's"):
        cases.call(nodes, "InstantIDPerson", insightface=other, image=fx.portrait("a"))


# ---- files


def test_the_drop_down_has_all_folders_and_changes_with_the_content(nodes, world, folder):
    node, person = nodes["InstantIDLoadPerson"], person_of(nodes, world, "a")
    save(nodes, person, "Carl")
    shutil.move(folder[0] / "Carl.safetensors", folder[1] / "Carl elsewhere.safetensors")
    (folder[0] / "notes.txt").touch()
    choices = node.INPUT_TYPES()["required"]["person"][0]
    assert "Carl elsewhere.safetensors" in choices and "notes.txt" not in choices
    before = node.IS_CHANGED(person="Carl elsewhere.safetensors")
    assert node.IS_CHANGED(person="Carl elsewhere.safetensors") == before
    other = save(nodes, person._replace(embeddings=-person.embeddings), "Carl")
    assert other["ui"]["text"] == ("Saved as Carl.safetensors.",)
    os.replace(folder[0] / "Carl.safetensors", folder[1] / "Carl elsewhere.safetensors")
    assert node.IS_CHANGED(person="Carl elsewhere.safetensors") != before


def test_a_missing_file_is_named(nodes, folder):
    with pytest.raises(FileNotFoundError, match="nobody.safetensors"):
        cases.call(nodes, "InstantIDLoadPerson", person="nobody.safetensors")
    assert nodes["InstantIDLoadPerson"].IS_CHANGED(person="nobody.safetensors") == "[]"


@pytest.mark.newest
def test_where_insightface_cannot_be_imported_a_saved_person_is_applied(nodes, world, folder, monkeypatch):
    """None in sys.modules: what imports it gets an ImportError."""
    save(nodes, person_of(nodes, world), "Dora")
    expected = latents(cases.advanced(nodes, world, image=cases.faces(*PHOTOS)))
    caches.clear()
    for name in [name for name in sys.modules if name.partition(".")[0] in ("insightface", "onnxruntime", "onnx")]:
        monkeypatch.setitem(sys.modules, name, None)
    person = cases.call(nodes, "InstantIDLoadPerson", person="Dora.safetensors")["result"][0]
    assert torch.equal(latents(apply_person(nodes, world, person)), expected)


# ---- blends


@pytest.mark.newest
def test_a_blend_of_1_and_0_gives_the_first_persons_latents(nodes, world):
    a, b = person_of(nodes, world, "a"), person_of(nodes, world, "b")

    def blended(weight_a, weight_b):
        person, = cases.call(nodes, "InstantIDBlendPeople", person_a=a, person_b=b, weight_a=weight_a, weight_b=weight_b,
                             method="spherical")
        return latents(apply_person(nodes, world, person))
    assert torch.equal(blended(1.0, 0.0), latents(cases.advanced(nodes, world, image=fx.portrait("a"))))
    assert not torch.equal(blended(1.0, 0.0), blended(0.5, 0.5))


@pytest.mark.newest
def test_the_nodes_show_the_crops(nodes, world, folder):
    def shown(answer):
        return [os.path.isfile(os.path.join(folder_paths.get_temp_directory(), image["filename"]))
                for image in answer["ui"]["images"]]
    made = cases.call(nodes, "InstantIDPerson", insightface=world.analysis, image=cases.faces(*PHOTOS))
    assert shown(made) == [True, True]


@pytest.mark.newest
def test_the_preview_of_a_saved_person_shows_the_crops_and_nothing_else(nodes, world, folder):
    person = person_of(nodes, world)
    save(nodes, person, "Shown")
    save(nodes, person, "Private", keep_crops=False)
    picture = cv2.imdecode(np.frombuffer(preview_of("Shown.safetensors"), np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
    assert np.array_equal(picture, torch.cat(list(person.crops), dim=1).numpy())
    (folder[0] / "damaged.safetensors").write_bytes((folder[0] / "Shown.safetensors").read_bytes()[:-1000])
    safetensors.torch.save_file({"crops": torch.zeros(1, 112, 112, 3)}, folder[0] / "floats.safetensors")
    (folder[0] / "text.safetensors").write_text("nothing")
    shutil.copy(folder[0] / "Shown.safetensors", folder[0].parent / "outside.safetensors")
    for name in ("Private.safetensors", "damaged.safetensors", "floats.safetensors", "text.safetensors", "nobody.safetensors",
                 None, "", ".", "..", "../outside.safetensors", str(folder[0].parent / "outside.safetensors"),
                 "../people/Shown.safetensors", "Shown"):
        assert preview_of(name) is None, name
    assert len(files.read_crops(folder[0] / "Shown.safetensors", 1)) == 1


@pytest.mark.newest
def test_names_are_checked_when_the_prompt_is_queued(nodes):
    check = nodes["InstantIDSavePerson"].VALIDATE_INPUTS
    assert check("Anna") is True and check(None) is True
    assert check("../Anna").startswith("A person cannot be saved under the name '../Anna'. Choose a name")


@pytest.mark.newest
def test_a_person_says_which_photos_will_cost_likeness(nodes, world, caplog):
    """The numbers go through all photos of a list; nothing is said of a photo without a face, or of a good one."""
    small, large = fx.portrait("c"), read_image(fx.portrait("c")[0], (640, 640))
    photos = [large, torch.zeros_like(large), small, 0.05 * large]
    cases.call(nodes, "InstantIDPerson", insightface=world.analysis, image=photos)
    said = [message for message in caplog.messages if "cost likeness" in message]
    assert len(said) == 2 and said[1].startswith("InstantID: The face in the photo at index 3 is too dark")
    assert re.sub(r"\d+ pixels", "n pixels", said[0]) == (
        "InstantID: The face in the photo at index 2 is only n pixels wide, which will cost likeness.")
