"""The key pair of a batch."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from nightkiln.machine.keys import BatchKeys, drop_key

BATCH = "nightly-2026-11-21"


def test_a_later_run_of_a_batch_finds_the_same_key(tmp_path: Path) -> None:
    first = BatchKeys.of(tmp_path / "keys", BATCH)

    second = BatchKeys.of(tmp_path / "keys", BATCH)

    assert second.public == first.public
    assert first.public.startswith("ssh-ed25519 ")
    assert "\n" not in first.public


def test_runs_that_begin_at_the_same_time_agree_on_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        found = threads.map(lambda _: BatchKeys.of(tmp_path / "keys", BATCH).public, range(8))

    assert len(set(found)) == 1
    assert [path.name for path in (tmp_path / "keys").iterdir()] == [BATCH]


def test_the_private_half_is_for_its_owner_alone(tmp_path: Path) -> None:
    keys = BatchKeys.of(tmp_path / "keys", BATCH)

    assert stat.S_IMODE(keys.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(keys.path.parent.stat().st_mode) == 0o700
    keys.path.chmod(0o644)
    BatchKeys.of(tmp_path / "keys", BATCH)
    assert stat.S_IMODE(keys.path.stat().st_mode) == 0o600


def test_no_repr_and_no_public_line_tells_the_private_half(tmp_path: Path) -> None:
    keys = BatchKeys.of(tmp_path / "keys", BATCH)

    secret = keys.private.export_private_key().decode().splitlines()[1:-1]

    for told in (repr(keys), str(keys), keys.public):
        assert not any(line in told for line in secret)
    assert "SSHKey" not in repr(keys)


def test_batches_have_keys_of_their_own_and_dropping_one_leaves_the_others(tmp_path: Path) -> None:
    mine, other = (BatchKeys.of(tmp_path / "keys", name) for name in (BATCH, "adhoc"))

    drop_key(tmp_path / "keys", BATCH)
    drop_key(tmp_path / "keys", BATCH)

    assert mine.public != other.public
    assert BatchKeys.of(tmp_path / "keys", "adhoc").public == other.public
    assert BatchKeys.of(tmp_path / "keys", BATCH).public != mine.public


def test_a_damaged_key_is_made_anew(tmp_path: Path) -> None:
    before = BatchKeys.of(tmp_path / "keys", BATCH)
    before.path.write_text("half a ke")

    after = BatchKeys.of(tmp_path / "keys", BATCH)

    assert after.public != before.public
