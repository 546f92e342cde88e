"""Where a data file comes from: the data directory, the cache, the internet, or one line that says what to do."""

import hashlib
import subprocess
import zipfile
from pathlib import Path

import pooch
import pytest

from bench.data_directory import DataFile, read
from bench.errors import MissingData

CONTENT = b"a,b\n1,2\n"


def data_file(content=CONTENT, member=None):
    return DataFile("some/file 1.csv", "https://example.org/file%201.csv", hashlib.sha256(content).hexdigest(), member)


class Downloader:
    """In place of the internet: writes ``content`` and counts."""

    def __init__(self, content):
        self.content, self.calls = content, 0

    def __call__(self, url, output_file, _):
        self.calls += 1
        Path(output_file).write_bytes(self.content)


def unreachable(url, output_file, _):
    raise OSError("no route\nto host")


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    monkeypatch.delenv("CADIBENCH_DATA", raising=False)


def test_file_in_the_data_directory_is_used_as_it_is(tmp_path, monkeypatch):
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "file 1.csv").write_bytes(b"mine")
    monkeypatch.setenv("CADIBENCH_DATA", str(tmp_path))
    assert read(data_file(), downloader=unreachable) == b"mine"


def test_file_is_downloaded_once():
    downloader = Downloader(CONTENT)
    assert read(data_file(), downloader=downloader) == CONTENT
    assert read(data_file(), downloader=unreachable) == CONTENT
    assert downloader.calls == 1


def test_file_missing_in_the_data_directory_is_downloaded(tmp_path, monkeypatch):
    monkeypatch.setenv("CADIBENCH_DATA", str(tmp_path))
    assert read(data_file(), downloader=Downloader(CONTENT)) == CONTENT


def test_download_with_another_checksum_is_refused_and_not_kept():
    with pytest.raises(MissingData, match="could not be downloaded from https"):
        read(data_file(), downloader=Downloader(b"tampered"))
    assert read(data_file(), downloader=Downloader(CONTENT)) == CONTENT


def test_member_of_an_archive_is_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "wheel.whl", "w") as archive:
        archive.writestr("package/file.json", CONTENT)
    content = (tmp_path / "wheel.whl").read_bytes()
    assert read(data_file(content, "package/file.json"), downloader=Downloader(content)) == CONTENT
    with pytest.raises(MissingData, match="There is no item named"):
        read(data_file(content, "package/other.json"), downloader=Downloader(content))


def test_failure_is_one_line_that_says_what_to_do(tmp_path, monkeypatch):
    with pytest.raises(MissingData) as error:
        read(data_file(), downloader=unreachable)
    message = str(error.value)
    assert "\n" not in message
    for part in ("'some/file 1.csv'", "CADIBENCH_DATA is not set", "no route to host", "set CADIBENCH_DATA to that directory"):
        assert part in message
    monkeypatch.setenv("CADIBENCH_DATA", str(tmp_path))
    with pytest.raises(MissingData, match=f"not in CADIBENCH_DATA \\({tmp_path}\\)"):
        read(data_file(), downloader=unreachable)


def test_unwritable_cache_is_missing_data_too(tmp_path, monkeypatch):
    (tmp_path / "blocked").write_text("a file where a folder is needed")
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "blocked" / project)
    with pytest.raises(MissingData):
        read(data_file(), downloader=Downloader(CONTENT))


def test_nothing_is_printed_on_a_download(capfd):
    read(data_file(), downloader=Downloader(CONTENT))
    assert capfd.readouterr() == ("", "")


def test_wheel_comes_through_the_users_pip(tmp_path, monkeypatch):
    def pip(command, **_):
        assert command[-1] == "package==1.0"
        folder = Path(command[command.index("--dest") + 1])
        (folder / "package-1.0-py3-none-any.whl").write_bytes(CONTENT)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", pip)
    file = DataFile("x", "pip:package==1.0", hashlib.sha256(CONTENT).hexdigest())
    assert read(file) == CONTENT


def test_wheel_that_pip_cannot_find_is_missing_data(monkeypatch):
    failed = subprocess.CompletedProcess([], 1, "", "WARNING: a\nERROR: No matching distribution found for package==1.0\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(MissingData, match="No matching distribution"):
        read(DataFile("x", "pip:package==1.0", "0" * 64))
