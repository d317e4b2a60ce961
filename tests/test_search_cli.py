"""The command `search`, and hits that leave the program."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from PIL import Image

from napari_virchow.cli import main
from napari_virchow.qupath.geojson import read_geojson
from napari_virchow.sample import write_sample
from napari_virchow.search import Options
from napari_virchow.search.export import COLUMNS, draw_gallery, write_csv, write_geojson
from napari_virchow.session import Session
from napari_virchow.slide import SlideError, open_slide
from napari_virchow.tiles import Rect, Tile


@pytest.fixture(scope="module")
def slide_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("slides") / "small.tif"
    write_sample(path, width=1500, height=1200)
    return path


@pytest.fixture(scope="module")
def second_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("slides") / "second.tif"
    write_sample(path, width=900, height=700, seed=3)
    return path


@pytest.fixture(scope="module")
def store(slide_file, second_file, tmp_path_factory):
    store = tmp_path_factory.mktemp("store")
    words = ["embed", str(slide_file), str(second_file), "--all-tiles", "--store", str(store)]
    assert main(words) == 0
    return store


def run(store, *words):
    return main(["search", *map(str, words), "--store", str(store)])


def asked(capsys, store, *words):
    assert run(store, *words, "--json") == 0
    return json.loads(capsys.readouterr().out)


def test_a_place_is_searched_for_on_its_slide(capsys, store, slide_file):
    facts = asked(capsys, store, slide_file, "--at", "700,600", "--k", 5)
    assert len(facts["hits"]) == 5
    assert facts["searched"] == {"tiles": 42, "slides": 1}
    assert facts["encoder"].startswith("texture-")
    assert {hit["name"] for hit in facts["hits"]} == {"small.tif"}
    scores = [hit["score"] for hit in facts["hits"]]
    assert scores == sorted(scores, reverse=True)
    assert all(max(abs(hit["row"] - 2), abs(hit["col"] - 3)) > 1 for hit in facts["hits"])


def test_python_gives_the_same_as_the_command(capsys, store, slide_file):
    words = (slide_file, "--at", "700,600", "--also", "100,100", "--not", "1400,1100")
    facts = asked(capsys, store, *words, "--scope", "store", "--k", 9)
    with Session(store) as session:
        slide = session.open_slide(slide_file)
        answer = session.search(
            slide,
            [(700, 600), (100, 100)],
            against=[(1400, 1100)],
            options=Options(scope="store", k=9),
        )
    said = [(hit["slide"], hit["row"], hit["col"], hit["score"]) for hit in facts["hits"]]
    assert said == [(h.slide, *h.tile, round(h.score, 6)) for h in answer.hits]
    assert facts["searched"]["slides"] == 2


def test_a_region_and_an_image_can_be_searched_for(capsys, store, slide_file, tmp_path):
    with open_slide(slide_file) as slide:
        pixels = slide.read_tiles(slide.grid(0.5), [Tile(3, 2)])[0]
    Image.fromarray(pixels).save(tmp_path / "tile.png")
    facts = asked(capsys, store, slide_file, "--image", tmp_path / "tile.png", "--k", 3)
    assert (facts["hits"][0]["row"], facts["hits"][0]["col"]) == (3, 2)
    assert facts["hits"][0]["score"] == pytest.approx(1, abs=1e-4)
    facts = asked(capsys, store, slide_file, "--region", "0,0,450,450", "--exclude", 0, "--k", 42)
    assert len(facts["hits"]) == 38  # the region's four tiles are no hits


def test_hits_are_written_in_every_form(capsys, store, slide_file, tmp_path):
    table, json_file, picture = (tmp_path / n for n in ("hits.csv", "hits.geojson", "hits.png"))
    words = ("--csv", table, "--geojson", json_file, "--gallery", picture)
    assert run(store, slide_file, "--at", "700,600", "--k", 7, *words) == 0
    said = capsys.readouterr().out
    assert all(str(file) in said for file in (table, json_file, picture))
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [int(row["rank"]) for row in rows] == list(range(1, 8))
    objects = read_geojson(json_file).objects
    assert len(objects) == 7
    left = min(objects[0].geometry.exterior.coords)[0]
    assert left == pytest.approx(float(rows[0]["x"]), abs=0.01)
    assert objects[0].measurements["similarity"] == pytest.approx(float(rows[0]["score"]), abs=1e-5)
    with Image.open(picture) as page:
        assert page.size == (7 * 136 + 8, 164 + 8)
        assert np.asarray(page)[8:136, 8:136].std() > 10


def test_hits_on_two_slides_are_two_files_for_qupath(store, slide_file, tmp_path):
    with Session(store) as session:
        slide = session.open_slide(slide_file)
        answer = session.search(slide, [(700, 600)], options=Options(scope="store", k=50))
    files = write_geojson(tmp_path / "hits.geojson", answer.hits)
    assert len(files) == 2
    assert sum(len(read_geojson(file).objects) for file in files) == len(answer.hits)
    assert {file.name.split("-")[1] for file in files} == {"small", "second"}


def test_a_picture_that_cannot_be_read_is_grey(store, slide_file):
    class Lost:
        def get(self, identity):
            raise SlideError("It is not known where it lies.")

    with Session(store) as session:
        slide = session.open_slide(slide_file)
        answer = session.search(slide, [(700, 600)], options=Options(k=3))
    page = np.asarray(draw_gallery(answer.hits, Lost()))
    assert page[10, 100].tolist() == [0xDD, 0xDD, 0xDD]


def test_nothing_is_left_of_a_table_that_cannot_be_written(store, slide_file, tmp_path):
    (tmp_path / "taken.csv").mkdir()
    with Session(store) as session:
        slide = session.open_slide(slide_file)
        answer = session.search(slide, [Rect(0, 0, 500, 500)], options=Options(k=3))
    with pytest.raises(OSError, match=r"taken\.csv"):
        write_csv(tmp_path / "taken.csv", answer.hits)
    assert [path.name for path in tmp_path.iterdir()] == ["taken.csv"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "Say what to look for"),
        (("--at", "7"), "must look like X,Y"),
        (("--region", "1,2,0,4"), "above 0"),
        (("--at", "99999,5"), "beside small.tif"),
        (("--at", "5,5", "--encoder", "virchow2"), "no embeddings by virchow2"),
        (("--at", "5,5", "--mpp", "2"), "at 2 µm/px"),
        (("--at", "5,5", "--k", "0"), "hits can be asked for"),
        (("--at", "5,5", "--class-token"), "no class token"),
        (("--image", "no.png"), "cannot be read as an image"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(capsys, store, slide_file, words, sentence):
    assert run(store, slide_file, *words) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1


def test_a_slide_that_is_not_embedded_is_told_what_to_do(capsys, tmp_path, slide_file):
    assert run(tmp_path, slide_file, "--at", "5,5") == 2
    assert "run napari-virchow embed" in capsys.readouterr().err
