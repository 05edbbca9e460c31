"""Compiled programs on disk: where, by whom they may be written, and which are removed."""

import os
import stat

import jax
import pytest

from mixer.hosts import compiled


@pytest.fixture
def settings(monkeypatch, tmp_path):
    """JAX without a cache; what `keep` sets is undone."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    jax.config.update("jax_compilation_cache_dir", None)
    monkeypatch.setenv("MIXER_CACHE", str(tmp_path / "cache"))
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_in_the_users_cache_folder_and_for_this_user_alone(settings, tmp_path):
    compiled.keep()
    (folder,) = (tmp_path / "cache" / "compiled").iterdir()
    assert jax.config.jax_compilation_cache_dir == str(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_what_the_user_has_chosen_stays(settings, tmp_path):
    jax.config.update("jax_compilation_cache_dir", "/theirs")
    compiled.keep()
    assert jax.config.jax_compilation_cache_dir == "/theirs"
    jax.config.update("jax_compilation_cache_dir", None)
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        compiled.keep()
    finally:
        jax.config.update("jax_enable_compilation_cache", True)
    assert jax.config.jax_compilation_cache_dir is None and not (tmp_path / "cache").exists()


def test_a_folder_that_cannot_be_made_is_said(settings, tmp_path, capsys):
    (tmp_path / "cache").write_text("a file")
    compiled.keep()
    assert jax.config.jax_compilation_cache_dir is None
    assert "$MIXER_CACHE names another folder" in capsys.readouterr().out


def test_those_not_used_for_longest_are_removed(tmp_path):
    for age, name in enumerate(("new", "old", "older")):
        (tmp_path / name).write_bytes(bytes(10))
        os.utime(tmp_path / name, (1e9 - age, 1e9 - 5))
    os.utime(tmp_path / "older", (1e9 - 9, 1e9 - 9))
    compiled.remove_oldest(tmp_path, 30)
    assert len(list(tmp_path.iterdir())) == 3
    compiled.remove_oldest(tmp_path, 25)
    assert {file.name for file in tmp_path.iterdir()} == {"new", "old"}
    compiled.remove_oldest(tmp_path, 0)
    assert not list(tmp_path.iterdir())
