import json
import os
import subprocess
import sys
from pathlib import Path
from threading import Timer

import pytest

from tercel.errors import HomeInUseError
from tercel.store.home import HomeLock, home_users, is_dead


class TestHomeLock:
    def test_given_several_that_share_then_all_work_side_by_side(self, tmp_path: Path) -> None:
        first = HomeLock(tmp_path, "first", "tercel run")
        second = HomeLock(tmp_path, "second", "tercel run")

        assert {user.id for user in home_users(tmp_path)} == {"first", "second"}

        first.close()
        second.close()
        assert home_users(tmp_path) == []

    def test_given_one_that_is_alone_then_another_is_told_who_and_what_to_do(self, tmp_path: Path) -> None:
        alone = HomeLock(tmp_path, "alone", "tercel server", alone=True)

        with pytest.raises(HomeInUseError) as caught:
            HomeLock(tmp_path, "other", "tercel run")

        since = home_users(tmp_path)[0].since
        assert str(caught.value) == (
            f"The home {tmp_path} is in use by `tercel server` (process {os.getpid()}, "
            f"since {since:%Y-%m-%d %H:%M:%S} UTC). Wait until it has ended, or work in another home: --home DIR."
        )
        alone.close()

    def test_given_it_leaves_in_time_then_the_patient_one_gets_in_and_was_told(self, tmp_path: Path) -> None:
        told: list[str] = []
        alone = HomeLock(tmp_path, "alone", "tercel server", alone=True)
        timer = Timer(0.05, alone.close)
        timer.start()

        other = HomeLock(tmp_path, "other", "tercel run", patience_s=30, on_wait=told.append)

        assert len(told) == 1
        assert told[0].startswith(f"Waiting for the home {tmp_path}, in use by `tercel server` (process ")
        other.close()
        timer.join()

    def test_given_one_that_shares_then_none_gets_it_alone(self, tmp_path: Path) -> None:
        sharing = HomeLock(tmp_path, "sharing", "tercel run")

        with pytest.raises(HomeInUseError):
            HomeLock(tmp_path, "alone", "tercel server", alone=True)

        sharing.close()

    def test_given_a_killed_process_then_it_is_dead_and_swept(self, tmp_path: Path) -> None:
        code = "import sys; from pathlib import Path; from tercel.store.home import HomeLock; import os\n"
        code += "HomeLock(Path(sys.argv[1]), 'killed', 'tercel run'); os.kill(os.getpid(), 9)"
        subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
        left = tmp_path / "processes" / "killed.lock"
        assert json.loads(left.read_text())["what"] == "tercel run"

        lock = HomeLock(tmp_path, "living", "tercel run")

        assert is_dead(tmp_path, "killed")
        assert not is_dead(tmp_path, "living")
        lock.sweep()
        assert not left.exists()
        assert is_dead(tmp_path, "killed")
        lock.close()
        lock.close()
