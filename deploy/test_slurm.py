"""Checks of slurm.sh with commands in place of Slurm's: what it asks them to do, and when it queues itself again."""

import os
import re
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

SCRIPT = Path(__file__).resolve().parent / "slurm.sh"

SRUN = """#!/bin/bash
printf '%s\\n' "$@" >"$SEEN/srun"
echo "$SSMV_TOKEN $MASTER_ADDR $SSMV_PORT" >"$SEEN/environment"
exit "$CODE"
"""
SCONTROL = """#!/bin/bash
case $1 in
show) [ "$2 $3" = "hostnames node[7-8]" ] && printf 'node7\\nnode8\\n' ;;
requeue) echo "$2" >"$SEEN/requeued" ;;
esac
"""

SQUEUE = """#!/bin/bash
[ "$*" = "--noheader --jobs 40007 --Format EndTime:30" ] && echo "$LIMIT"
"""


class Slurm(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        for name, text in (("srun", SRUN), ("scontrol", SCONTROL), ("squeue", SQUEUE)):
            (self.folder / name).write_text(text)
            (self.folder / name).chmod(0o755)
        self.out = self.folder / "run"

    def sbatch(self, *arguments, code=0, left=3600, restarts=0):
        """The script's exit code, what it said, and srun's arguments. `left`: seconds to the limit, or text as it is."""
        limit = left
        if isinstance(left, int):
            limit = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(time.time() + left))
        seen = self.folder / "seen"
        seen.mkdir(exist_ok=True)
        for file in seen.iterdir():
            file.unlink()
        environment = {
            "PATH": f"{self.folder}:{os.environ['PATH']}",
            "SEEN": str(seen),
            "CODE": str(code),
            "SLURM_JOB_ID": "40007",
            "SLURM_JOB_NODELIST": "node[7-8]",
            # As Slurm writes it: local time, padded.
            "LIMIT": limit and f"{limit:<30}",
            **({"SLURM_RESTART_COUNT": str(restarts)} if restarts else {}),
        }
        done = subprocess.run([SCRIPT, *arguments], env=environment, capture_output=True, text=True)
        srun = seen / "srun"
        self.environment = (seen / "environment").read_text().split() if srun.exists() else None
        self.requeued = (seen / "requeued").exists()
        return done.returncode, done.stderr, srun.read_text().splitlines() if srun.exists() else None

    def test_the_ranks_are_started(self):
        code, _, srun = self.sbatch("--preset", "base", "--out", str(self.out))
        self.assertEqual(code, 0)
        self.assertEqual(
            srun, ["--kill-on-bad-exit=0", "ssmv-raw", "train", "--preset", "base", "--out", str(self.out)]
        )
        token, master, port = self.environment
        self.assertTrue(re.fullmatch("[0-9a-f]{64}", token), token)
        self.assertEqual((master, port), ("node7", "20007"))
        self.assertNotIn(token, " ".join(srun))
        self.sbatch("--out", str(self.out))
        self.assertNotEqual(self.environment[0], token)

    def test_it_resumes_where_there_is_a_checkpoint(self):
        for name in ("step-00000800", ".step-00000800.old-7"):
            checkpoint = self.out / "checkpoints" / name
            checkpoint.mkdir(parents=True)
            for out in (["--out", str(self.out)], [f"--out={self.out}"]):
                self.assertEqual(self.sbatch(*out, restarts=1)[2][-1], "--resume")
            checkpoint.rmdir()

    def test_a_run_without_a_checkpoint_is_moved_aside_at_a_restart_only(self):
        (self.out / "checkpoints" / ".step-00000800.tmp-7").mkdir(parents=True)
        self.assertNotIn("--resume", self.sbatch("--out", str(self.out))[2])
        self.assertTrue(self.out.exists())
        self.assertNotIn("--resume", self.sbatch("--out", f"{self.out}/", restarts=2)[2])
        self.assertFalse(self.out.exists())
        self.assertTrue(Path(f"{self.out}.unfinished-2").is_dir())

    def test_it_comes_back_after_the_time_limit_alone(self):
        for code, left, again in [
            (143, 100, True),
            (143, 3600, False),
            (143, "NONE", False),
            (143, "", False),
            (0, 100, False),
            (1, 100, False),
            (130, 100, False),
        ]:
            self.assertEqual(self.sbatch("--out", str(self.out), code=code, left=left)[0], code)
            self.assertEqual(self.requeued, again, (code, left))

    def test_wrong_usage(self):
        for arguments, word in [
            ([], "--out"),
            (["--out"], "--out"),
            (["--out", "a", "--resume"], "--resume"),
            (["--resume=b", "--out=a"], "--resume"),
        ]:
            code, said, srun = self.sbatch(*arguments)
            self.assertEqual((code, srun), (2, None))
            self.assertIn(word, said)


if __name__ == "__main__":
    unittest.main()
