"""The jobs of a run: settings, rows, ids, the workflow. Without a server."""

import pytest

from bulk import BulkError
from bulk.jobs import checking, settings, sources, workflow
from bulk.jobs.plan import Plan

NODES = {"1": {"class_type": "LoadImage", "inputs": {"image": "none.png"}, "_meta": {"title": "Photo"}},
         "2": {"class_type": "KSampler", "inputs": {"seed": 1, "cfg": 4.5, "model": ["1", 0]}}}


def plan(tmp_path, product=None, table=None, **changes):
    made = settings.Settings(tmp_path / "w.json", tmp_path / "out", {"photo": "Photo.image"},
                             {"seed": "2.seed", "cfg": "2.cfg"}, product=product or {}, table=table, person=("photo",),
                             folder=tmp_path, **changes)
    return Plan(made, workflow.Workflow(dict(NODES)))


@pytest.fixture
def photos(tmp_path):
    (tmp_path / "photos").mkdir()
    for name in "abc":
        (tmp_path / "photos" / f"{name}.png").write_bytes(name.encode())
    return tmp_path


def test_a_product_has_the_jobs_of_a_person_together(photos):
    made = plan(photos, {"seed": {"from": 1, "to": 4}, "photo": {"folder": "photos"}})
    jobs = list(made.jobs().values())
    people = [found.person for found in jobs]
    assert made.describe(jobs[0]) == "photo photos/a.png, seed 1"
    assert len(made.rows) == len(people) == 12
    assert [people[place] for place in (0, 4, 8)] == sorted(set(people), key=people.index)


def test_an_id_is_made_from_content(photos):
    product = {"photo": {"folder": "photos"}, "seed": [1]}
    ids = [found.id for found in plan(photos, product).jobs().values()]
    (photos / "photos" / "a.png").rename(photos / "photos" / "d.png")
    assert {found.id for found in plan(photos, product).jobs().values()} == set(ids)
    (photos / "photos" / "b.png").write_bytes(b"another photo")
    assert len({found.id for found in plan(photos, product).jobs().values()} & set(ids)) == 2
    assert not {found.id for found in plan(photos, {**product, "seed": [2]}).jobs().values()} & set(ids)


@pytest.mark.parametrize("given", [
    '[inputs]\nperson = "Saved.person"\n[product]\nperson = {folder = "people"}',
    'table = "jobs.csv"\n[inputs]\nperson = "Saved.person"\n[folders]\nperson = "people"'])
def test_a_saved_person_is_known_by_content(tmp_path, given):
    """The servers have the file under its name; another content of that name is another job."""
    (tmp_path / "people").mkdir()
    for name in "ab":
        (tmp_path / "people" / f"{name}.safetensors").write_bytes(name.encode())
    (tmp_path / "jobs.csv").write_text("person\na.safetensors\nb.safetensors\n")
    (tmp_path / "JOBS.toml").write_text(f'workflow = "w"\noutput = "o"\n{given}')

    def jobs():
        nodes = {"1": {"class_type": "InstantIDLoadPerson", "inputs": {"person": ""}, "_meta": {"title": "Saved"}}}
        made = Plan(settings.read(tmp_path / "JOBS.toml", {}), workflow.Workflow(nodes))
        found = list(made.jobs().values())
        assert [made.prompt(job)["1"]["inputs"]["person"] for job in found] == ["a.safetensors", "b.safetensors"]
        assert len({job.person for job in found}) == 2 and not any(job.files for job in found)
        return [job.id for job in found]

    before = jobs()
    (tmp_path / "people" / "b.safetensors").write_bytes(b"another person")
    after = jobs()
    assert after[0] == before[0] and after[1] != before[1]


def test_a_table_gives_the_kind_of_value_that_the_workflow_has(photos):
    for name, text in (("jobs.csv", "photo,seed,cfg\nphotos/a.png,7,3.5\nphotos/b.png,,\n"),
                       ("semicolons.csv", "photo;seed;cfg\nphotos/a.png;7;3.5\nphotos/b.png;;\n"),
                       ("jobs.jsonl", '{"photo": "photos/a.png", "seed": 7, "cfg": 3.5}\n\n{"photo": "photos/b.png"}\n'),
                       ("jobs.toml", '[[job]]\nphoto="photos/a.png"\nseed = 7\ncfg = 3.5\n[[job]]\nphoto="photos/b.png"\n')):
        (photos / name).write_text(text)
        first, second = plan(photos, table=photos / name).jobs().values()
        assert first.values == {"photo": "photos/a.png", "seed": 7, "cfg": 3.5}
        assert second.values == {"photo": "photos/b.png"}


@pytest.mark.parametrize("product", [{"seed": {"from": 1, "to": 10 ** 30}},
                                     {"seed": {"from": 1, "to": 10 ** 5}, "cfg": [1.0] * 11}])
def test_more_than_a_million_jobs_are_refused(photos, product):
    with pytest.raises(BulkError, match="a plan may have at most 1,000,000"):
        plan(photos, product)


@pytest.mark.parametrize("cell", ["nan", "inf", "-0.1", "9" * 5000])
def test_numbers_outside_of_what_the_node_takes_are_refused(photos, cell):
    (photos / "jobs.csv").write_text(f"photo,cfg\nphotos/a.png,0.5\nphotos/b.png,{cell}\n")
    info = {"KSampler": {"input": {"required": {"cfg": ["FLOAT", {"min": 0.0, "max": 1.0}]}}}}
    problem, *others = checking.row_problems(plan(photos, table=photos / "jobs.csv"), info)
    assert problem.startswith("Row 2 of jobs.csv: cfg is ") and len(problem) < 100 and "seed" in others[0]


@pytest.mark.parametrize("content, sentence", [
    ("workflow = 'w'", "output is missing"),
    ("workflow = 'w'\noutput = 'o'\ntabel = 't'", "settings that do not exist: tabel"),
    ("workflow = 'w'\noutput = 'o'\ntable = 't'\n[product]\nseed = [1]", "exactly one of the two"),
    ("workflow = 'w'\noutput = 'o'\ntable = 't'\nservers = ['ftp://x']\n[inputs]\na = 'b.c'", "is not the address of a server"),
    ("workflow = 'w'\noutput = 'o'\ntable = 't'\njob_seconds = nan\n[inputs]\na = 'b.c'", "must be a number from 1"),
    ("workflow = 'w'\noutput = 'o'\ntable = 't'\n[inputs]\na = 'b.c'\n[folders]\nd = '.'", "which is not in .inputs."),
    ("workflow = 'w'\noutput = 'o'\ntable = 't'\n[inputs]\na = 'b.c'\n[folders]\na = 'x'", "there is no such folder"),
    ("workflow = ", "is not a TOML file"),
])
def test_wrong_settings_are_refused(tmp_path, content, sentence):
    path = tmp_path / "JOBS.toml"
    path.write_text(content)
    with pytest.raises(BulkError, match=sentence):
        settings.read(path, {})


@pytest.mark.parametrize("given", [[], {"from": 2, "to": 1}, {"folder": "nowhere"}, {"lines": "nothing.txt"}, 3, {"form": 1}])
def test_wrong_values_of_a_product_are_refused(tmp_path, given):
    with pytest.raises(BulkError, match="photo"):
        sources.axis("photo", given, tmp_path, True)


@pytest.mark.parametrize("content", ['{"nodes": [{"id": 1, "type": "LoadImage"}], "links": []}', "[]", '{"1": {"inputs": {}}}'])
def test_a_workflow_that_is_not_in_api_form_is_refused_with_the_way_to_export_it(tmp_path, content):
    (tmp_path / "w.json").write_text(content)
    with pytest.raises(BulkError, match="File > Export .API."):
        workflow.read(tmp_path / "w.json")


def test_servers_that_share_a_folder_write_files_of_different_names(photos):
    made = plan(photos, {"seed": {"from": 1, "to": 2}})
    made.workflow.nodes["9"] = {"class_type": "SaveImage", "inputs": {"filename_prefix": "me", "images": ["2", 0]}}
    names = [made.prompt(found)["9"]["inputs"]["filename_prefix"] for found in made.jobs().values()]
    assert names == [f"me_{found.id}" for found in made.jobs().values()] and len(set(names)) == 2
    assert made.workflow.nodes["9"]["inputs"]["filename_prefix"] == "me"
