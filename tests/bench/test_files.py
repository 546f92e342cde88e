"""Files and folders appear and go whole."""

import pytest

from bench.files import new_folder, remove_folder


def test_a_folder_appears_once_it_is_whole(tmp_path):
    with new_folder(tmp_path / "new") as folder:
        (folder / "file").write_text("here")
        assert not (tmp_path / "new").exists()
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["new", "new/file"]


def _fill(path, then):
    with new_folder(path) as folder:
        (folder / "file").write_text("half")
        then()


def test_a_folder_that_failed_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError):
        _fill(tmp_path / "new", lambda: 1 / 0)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_came_meanwhile_stays(tmp_path):
    with pytest.raises(OSError, match="not empty"):
        _fill(tmp_path / "new", lambda: (tmp_path / "new" / "other").mkdir(parents=True))
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["new", "other"]


def test_a_folder_is_removed_and_none_is_no_error(tmp_path):
    (tmp_path / "old" / "deep").mkdir(parents=True)
    for _ in range(2):
        remove_folder(tmp_path / "old")
        assert not list(tmp_path.iterdir())
