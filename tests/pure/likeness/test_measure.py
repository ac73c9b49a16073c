"""Likeness: the cosines of real photos, which faces they are of, and how often the networks run."""

import numpy as np
import pytest
import torch
from instantid_swift import caches, faces
from instantid_swift.faces import FaceChoice
from instantid_swift.likeness import measure, report
from instantid_swift.people.person import Person, person_of_photos
from instantid_swift.utils import InstantIDError
from oracle import fixtures as fx
from photos import person_photo

ONE = ("05_front", "05_left", "05_right")
OTHER = "04_front"
GREY = torch.full((1, 256, 256, 3), 0.5)


def photos(*names):
    return torch.cat([person_photo(name) for name in names])


def likeness(analysis, pictures, reference, choice=faces.LARGEST, second=None):
    reference = reference if isinstance(reference, Person) else faces.Photos(analysis, reference)
    return measure.likeness(faces.Photos(analysis, pictures, choice), reference, second)


def test_real_photos_of_one_face_are_alike_and_those_of_others_are_not(ours):
    """The bands are those of photographs: the six of insightface's group photo, and the same photo mirrored and darker."""
    def six(photo):
        found = [measure.seen_faces(faces.Photos(ours, photo, FaceChoice("left to right", index)))[0] for index in range(6)]
        return [face.embedding for face in found]
    each, mirrored = six(fx.photo()), six(0.6 * fx.photo().flip(2))[::-1]
    same = [measure.cosine(one, other) for one, other in zip(each, mirrored, strict=True)]
    different = [measure.cosine(each[a], other[b]) for other in (each, mirrored) for a in range(6) for b in range(a)]
    assert {measure.band(value) for value in same} == {"same person"}
    assert {measure.band(value) for value in different} == {"another person"}


def test_the_reference_is_the_mean_of_directions_and_knows_its_own_ceiling(ours):
    known = faces.Photos(ours, photos(*ONE)).references()[:, 0]
    of = measure.reference_of(known)
    directions = torch.nn.functional.normalize(known.double(), dim=1)
    mean = torch.nn.functional.normalize(directions.mean(dim=0), dim=0)
    assert np.allclose(of.direction, mean, atol=1e-12)
    others = torch.nn.functional.normalize(directions[1:].mean(dim=0), dim=0)
    assert len(of.photo_cosines) == 3 and of.photo_cosines[0] == pytest.approx(float(directions[0] @ others))
    assert min(of.photo_cosines) > measure.ANOTHER
    assert np.allclose(measure.reference_of(5 * known).direction, of.direction, atol=1e-6), "lengths mean nothing"
    assert measure.reference_of(known[:1]).photo_cosines == ()


def test_best_first_whatever_the_order_of_the_pictures(ours):
    names = (OTHER, "05_left", "nobody", "05_front", "05_right")

    def pictures(order):
        return torch.cat([GREY if name == "nobody" else person_photo(name) for name in order])
    measured = likeness(ours, pictures(names), photos(ONE[0]))
    ranked = [names[index] for index in measured.order]
    assert ranked[0] == ONE[0] and ranked[-1] == OTHER and "nobody" not in ranked
    caches.clear()
    backwards = likeness(ours, pictures(names[::-1]), photos(ONE[0]))
    assert [names[::-1][index] for index in backwards.order] == ranked
    assert [backwards.values[index] for index in backwards.order] == pytest.approx(
        [measured.values[index] for index in measured.order], abs=1e-6)
    assert measured.best() == [3, *measured.order[1:]] and measured.best(count=2) == measured.order[:2]
    least = measured.values[measured.order[2]]
    assert measured.best(minimum=least) == measured.order[:3] and measured.best(count=1, minimum=least) == [3]


def test_no_face_is_no_number_and_is_counted_apart(ours):
    measured = likeness(ours, torch.cat([GREY, photos(ONE[1]), GREY]), photos(ONE[0]))
    assert measured.values[0] is None and measured.values[2] is None and measured.order == [1]
    text = " ".join(report.report_text(measured).split())
    assert "no face was found: pictures 0, 2 (2 of 3)" in text and "0.000" not in text
    nobody = likeness(ours, GREY, photos(ONE[0]))
    assert nobody.order == [] and "(1 of 1)" in " ".join(report.report_text(nobody).split())
    with pytest.raises(faces.NoFaceError, match="No face detected"):
        likeness(ours, photos(ONE[0]), GREY)


def test_sixteen_pictures_are_one_run_of_the_detector_and_one_of_the_embedder_each(counted):
    analysis, detector, embedder = counted
    reference = photos(ONE[0])
    faces.Photos(analysis, reference).references()
    pictures = torch.cat([photos(*ONE, OTHER)] * 4)
    pictures += torch.arange(1, 17)[:, None, None, None] / 1000  # sixteen different ones, none of them the reference
    detector.shapes.clear(), embedder.shapes.clear()
    first = likeness(analysis, pictures, reference)
    assert None not in first.values
    assert [shape[0] for shape in detector.shapes] == [16], "all are found at the first size"
    assert [shape[0] for shape in embedder.shapes] == [1] * 16
    again = likeness(analysis, pictures.flip(0), reference)
    assert again.values == first.values[::-1]
    assert (detector.runs, embedder.runs) == (1, 16), "a picture seen before is not looked at again"
    likeness(analysis, torch.cat([pictures[3:5], GREY]), reference)
    assert embedder.runs == 16 and {shape[0] for shape in detector.shapes[1:]} == {1}, "the new picture alone"


def test_which_face_is_measured(ours):
    person = person_of_photos(faces.Photos(ours, fx.photo(), FaceChoice("left to right", 2)))
    values = [likeness(ours, fx.photo(), person, FaceChoice("left to right", index)).values for index in (1, 2, 6)]
    assert values[0][0] < 0.99 < values[1][0] and values[2] == (None,), "there is no seventh face"


def test_a_person_of_another_network_is_refused(ours):
    person = person_of_photos(faces.Photos(ours, photos(ONE[0])))
    foreign = person._replace(embedder="buffalo_l/w600k_r50.onnx")
    with pytest.raises(InstantIDError, match="buffalo_l/w600k_r50.onnx"):
        likeness(ours, photos(ONE[1]), foreign)


def test_a_second_opinion_stands_beside_the_first(ours):
    """Here it is given by the same networks, and so says the same."""
    from instantid_swift.faces.analysis import FaceAnalysis
    second = FaceAnalysis.__new__(FaceAnalysis)
    vars(second).update(vars(ours), key=("another",))
    pictures, reference = torch.cat([photos(OTHER), GREY, photos(ONE[1])]), photos(*ONE[::2])
    for known in (reference, person_of_photos(faces.Photos(ours, reference))):
        measured = likeness(ours, pictures, known, second=second)
        assert measured.second[1] is None
        assert [measured.second[0], measured.second[2]] == pytest.approx([measured.values[0], measured.values[2]], abs=1e-6)
        assert "second opinion is that of antelopev2/" in " ".join(report.report_text(measured).split())
    with pytest.raises(InstantIDError, match="saved without them"):
        likeness(ours, pictures, known._replace(crops=None), second=second)


def test_the_report_says_what_the_numbers_mean(ours):
    measured = likeness(ours, photos(OTHER, ONE[1]), photos(*ONE[::2]))
    text = report.report_text(measured, kept=[1])
    lines = text.splitlines()
    assert lines[0].split() == ["picture", "likeness", "face", "verdict"]
    assert lines[1].split()[0] == "1" and lines[1].endswith(measure.band(measured.values[1]))
    assert lines[2].split()[0] == "0" and lines[2].endswith(f"{measure.band(measured.values[0])}, left out")
    assert [line.count("━") for line in lines[1:3]] == [round(report.BAR * max(0, measured.values[index])) for index in (1, 0)]
    assert max(map(len, lines)) <= report.LETTERS
    text = " ".join(text.split())
    assert "2 photos of the reference reach" in text and "a little high" in text and "score lower" in text
