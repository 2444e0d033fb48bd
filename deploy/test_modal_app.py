"""Checks of modal_app.py that need the modal package and nothing else: no account, no network, no GPU.

    python -m unittest discover deploy        (or `.ci/deploy`, which installs modal first)
"""

import contextlib
import io
import os
import pickle
import runpy
import signal
import stat
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import modal
import modal._cluster
import modal.exception

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import modal_app  # noqa: E402

TOKEN = "5eed" * 16


class Launched:
    """Stands in for subprocess.Popen: keeps what was run, and ends with the codes that it was given."""

    def __init__(self, *codes):
        self.codes, self.commands, self.options = list(codes), [], []

    def __call__(self, command, **options):
        self.commands.append(command)
        self.options.append(options)
        return mock.Mock(wait=mock.Mock(return_value=self.codes.pop(0)))


class Case(unittest.TestCase):
    """A folder for the volume, and a process call that runs nothing."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.runs = Path(folder.name) / "runs"
        self.runs.mkdir()
        self.volume = self.replace(modal_app, "volume", mock.Mock())
        self.replace(modal_app, "VOLUME", self.runs.parent)
        self.replace(modal_app, "RUNS", self.runs)

    def replace(self, where, name, value):
        patch = mock.patch.object(where, name, value)
        self.addCleanup(patch.stop)
        return patch.start()

    def launched(self, *codes):
        return self.replace(subprocess, "Popen", Launched(*codes))

    def checkpoint(self, run, name="step-00000800"):
        (self.runs / run / "checkpoints" / name).mkdir(parents=True)

    def in_cluster(self, rank, ipv4=("10.0.0.1", "10.0.0.2", "10.0.0.3")):
        ipv6 = ["fdaa::1", "fdaa::2", "fdaa::3"]
        context = modal._cluster.ClusterContext(rank, "cu-test", ipv6, list(ipv4), [])
        self.replace(modal._cluster, "current_cluster_context", context)


class Training(Case):
    def test_one_node(self):
        popen = self.launched(0)
        self.assertEqual(modal_app.train.local(["--preset", "base", "--out", "a", "--steps", "9"]), 0)
        out = str(self.runs / "a")
        self.assertEqual(
            popen.commands,
            [["ssmv-raw", "launch", "--nproc", "8", "--", "train", "--preset", "base", "--steps", "9", "--out", out]],
        )
        # A terminal's Ctrl-C or a signal to the container's group would otherwise be its second.
        self.assertEqual(popen.options, [{"start_new_session": True}])
        self.volume.reload.assert_called_once()
        self.volume.commit.assert_called_once()

    def test_a_second_try_goes_on(self):
        popen = self.launched(1, 0)
        with self.assertRaises(subprocess.CalledProcessError) as raised:
            modal_app.train.local(["--out=a"])
        # As it travels from the container to the caller.
        self.assertEqual(pickle.loads(pickle.dumps(raised.exception)).returncode, 1)
        self.volume.commit.assert_called_once()
        self.checkpoint("a")
        self.assertEqual(modal_app.train.local(["--out=a"]), 0)
        out = ["--out", str(self.runs / "a")]
        self.assertEqual([c[6:] for c in popen.commands], [out, [*out, "--resume"]])

    def test_what_counts_as_a_checkpoint(self):
        for name, resumes in [
            ("step-00000800", True),
            (".step-00000800.old-77", True),
            (".step-00000800.tmp-77", False),
            (".step-00000800.del-77", False),
            ("abandoned-step-00000800", False),
        ]:
            self.checkpoint(name, name)
            self.assertEqual("--resume" in modal_app.in_its_folder(["--out", name], writes=False), resumes, name)

    def test_a_run_without_a_checkpoint_is_moved_aside(self):
        for n in (1, 2):
            self.checkpoint("a", ".step-00000800.tmp-77")
            popen = self.launched(0)
            modal_app.train.local(["--out", "a"])
            self.assertNotIn("--resume", popen.commands[0])
            self.assertFalse((self.runs / "a").exists())
            self.assertTrue((self.runs / f"a.unfinished-{n}" / "checkpoints").is_dir())

    def test_the_callers_own_resume_stands(self):
        self.checkpoint("a")
        for resume in (["--resume"], ["--resume", "/vol/runs/b"], ["--resume=/vol/runs/b"]):
            arguments = modal_app.in_its_folder(["--out", "a", *resume], writes=True)
            self.assertEqual(arguments, [*resume, "--out", str(self.runs / "a")])

    def test_exit_codes(self):
        for code in (0, 2):
            self.launched(code)
            self.assertEqual(modal_app.train.local(["--out", "a"]), code)
        for code in (1, 3, 101, 130, 143, -9):
            self.launched(code)
            with self.assertRaises(subprocess.CalledProcessError) as raised:
                modal_app.train.local(["--out", "a"])
            self.assertEqual(raised.exception.returncode, code)


class Cluster(Case):
    def setUp(self):
        super().setUp()
        patch = mock.patch.dict(os.environ, {"SSMV_TOKEN": TOKEN})
        patch.start()
        self.addCleanup(patch.stop)

    def test_every_node_has_its_place(self):
        for rank in range(3):
            self.in_cluster(rank)
            popen = self.launched(0)
            self.volume.reset_mock()
            self.assertEqual(modal_app.train_many.local(["--preset", "base", "--out", "a"]), 0)
            want = "ssmv-raw launch --nproc 8 --nnodes 3 --node-rank"
            want += f" {rank} --master-addr 10.0.0.1 --master-port 29400 -- train --preset base --out {self.runs / 'a'}"
            self.assertEqual(popen.commands, [want.split()])
            self.volume.reload.assert_called_once()
            # The one that writes commits.
            self.assertEqual(self.volume.commit.call_count, int(rank == 0))

    def test_ipv6_where_there_is_nothing_else(self):
        self.in_cluster(1, ipv4=())
        popen = self.launched(0)
        modal_app.train_many.local(["--out", "a"])
        command = popen.commands[0]
        self.assertEqual(command[command.index("--master-addr") + 1], "fdaa::1")

    def test_all_nodes_resume_and_one_moves_folders(self):
        self.checkpoint("a")
        self.checkpoint("b", ".step-00000800.tmp-77")
        for rank in (2, 1, 0):
            self.in_cluster(rank)
            popen = self.launched(0, 0)
            modal_app.train_many.local(["--out", "a"])
            modal_app.train_many.local(["--out", "b"])
            self.assertEqual([c[-1] for c in popen.commands], ["--resume", str(self.runs / "b")])
            self.assertEqual((self.runs / "b").exists(), rank > 0)

    def test_the_token_is_in_the_environment_alone(self):
        self.in_cluster(0)
        popen = self.launched(1)
        with self.assertRaises(subprocess.CalledProcessError) as raised:
            modal_app.train_many.local(["--out", "a"])
        self.assertNotIn(TOKEN, " ".join(popen.commands[0]) + str(raised.exception))
        # Inherited: an `env` of our own would have to have it.
        self.assertNotIn("env", popen.options[0])

    def test_each_start_has_a_token_of_its_own(self):
        made = []
        real = modal.Secret.from_dict
        with mock.patch.object(modal.Secret, "from_dict", lambda given: made.append(given) or real(given)):
            for _ in range(2):
                runpy.run_path(str(HERE / "modal_app.py"))
        for secret in made:
            self.assertRegex(secret["SSMV_TOKEN"], "^[0-9a-f]{64}$")
        self.assertEqual(len(made), 2)
        self.assertNotEqual(*made)

    def test_outside_a_cluster_is_an_error(self):
        with self.assertRaises(modal.exception.InvalidError):
            modal_app.train_many.local(["--out", "a"])


class OneGpu(Case):
    def test_bench(self):
        popen = self.launched(0, 0)
        modal_app.bench.local([])
        modal_app.bench.local(["--preset=large", "--batch-size", "8"])
        common = ["ssmv-raw", "bench", "--device", "cuda"]
        self.assertEqual(
            popen.commands, [[*common, "--preset", "base"], [*common, "--preset=large", "--batch-size", "8"]]
        )

    def test_smoke_stops_at_the_first_failure(self):
        popen = self.launched(0, 0)
        self.assertEqual(modal_app.smoke.local(["--filter", "gemm"]), 0)
        selftest = ["ssmv-raw", "selftest", "--device", "cuda", "--filter", "gemm"]
        self.assertEqual(popen.commands, [["ssmv-raw", "doctor"], selftest])
        popen = self.launched(1)
        with self.assertRaises(subprocess.CalledProcessError):
            modal_app.smoke.local([])
        self.assertEqual(len(popen.commands), 1)


class Process(Case):
    """With a real process in the program's place."""

    def setUp(self):
        super().setUp()
        self.saved = self.runs.parent / "saved"

    def program(self, text):
        path = self.runs.parent / "program"
        path.write_text("#!/bin/sh\n" + text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        self.replace(modal_app, "PROGRAM", str(path))

    def trains_until_told(self):
        # Writes down each time that it is told, and takes a while to end.
        self.program(f"""
            trap 'echo told >> {self.saved}; last=10' TERM
            while [ "${{last:-1}}" -gt 0 ]; do sleep 0.05; last=${{last:+$((last - 1))}}; done
            exit 143
            """)

    def test_preemption_lets_it_save(self):
        self.trains_until_told()
        self.addCleanup(signal.signal, signal.SIGALRM, signal.getsignal(signal.SIGALRM))
        self.addCleanup(signal.alarm, 0)
        modal.exception.simulate_preemption(1)
        with self.assertRaises(KeyboardInterrupt):
            modal_app.train.local(["--out", "a"])
        self.assertEqual(self.saved.read_text(), "told\n")
        self.volume.commit.assert_called_once()

    def test_commits_on_the_way_and_a_failed_one_ends_nothing(self):
        self.program("sleep 0.5\n")
        self.replace(modal_app, "COMMIT_EVERY", 0.1)
        failed = [modal.exception.InternalError("no")] * 2
        self.volume.commit.side_effect = [*failed, *[None] * 100]
        with contextlib.redirect_stderr(io.StringIO()) as said:
            self.assertEqual(modal_app.train.local(["--out", "a"]), 0)
        self.assertGreater(self.volume.commit.call_count, 3)
        self.assertEqual(said.getvalue().count("the volume was not committed: no"), 2)

    def test_a_last_commit_that_fails_is_a_failure(self):
        self.program("exit 0\n")
        self.volume.commit.side_effect = modal.exception.InternalError("no")
        with self.assertRaises(modal.exception.InternalError):
            modal_app.train.local(["--out", "a"])

    def test_when_the_day_is_over_it_saves_and_another_try_follows(self):
        self.trains_until_told()
        self.replace(modal_app, "TIMEOUT", modal_app.TIME_TO_SAVE + 1)
        with self.assertRaises(subprocess.CalledProcessError) as raised:
            modal_app.train.local(["--out", "a"])
        self.assertEqual(raised.exception.returncode, 143)
        self.assertEqual(self.saved.read_text(), "told\n")


class CommandLine(Case):
    """Through Modal's own command line, with the connection and the functions replaced."""

    def modal_run(self, function, result, *arguments):
        import modal.cli.run
        from modal.cli.entry_point import entrypoint_cli

        # Modal imports the file anew, by its name.
        self.addCleanup(sys.modules.__setitem__, "modal_app", modal_app)
        remote = mock.Mock(side_effect=result if isinstance(result, BaseException) else [result])
        said = io.StringIO()
        with (
            mock.patch.object(modal.cli.run, "run_app", lambda *_, **__: contextlib.nullcontext()),
            mock.patch.object(modal.Function, "remote", remote),
            contextlib.redirect_stderr(said),
            contextlib.redirect_stdout(said),
            self.assertRaises(SystemExit) as exited,
        ):
            entrypoint_cli.main(["run", str(HERE / "modal_app.py"), *arguments])
        return exited.exception.code, remote.call_args, said.getvalue()

    def test_arguments_and_exit_codes_pass(self):
        arguments = ["--preset", "base", "--out", "a", "--lr=1e-3", "--json"]
        for result, code in [
            (0, 0),
            (2, 2),
            (subprocess.CalledProcessError(1, ["ssmv-raw"]), 1),
            (subprocess.CalledProcessError(143, ["ssmv-raw"]), 143),
            (subprocess.CalledProcessError(-9, ["ssmv-raw"]), 137),
        ]:
            exited, called, _ = self.modal_run("train", result, "train", *arguments)
            self.assertEqual((exited, called), (code, mock.call(arguments)))

    def test_a_run_folder_is_named_once_for_all_tries(self):
        for command in ("train", "train-many"):
            _, called, said = self.modal_run("train", 0, command, "--preset", "base")
            arguments = called.args[0]
            self.assertEqual(arguments[:3], ["--preset", "base", "--out"])
            self.assertRegex(arguments[3], r"^run-\d{8}-\d{6}$")
            self.assertIn(f"run folder /vol/runs/{arguments[3]} on the volume", said)
        self.assertEqual(self.modal_run("bench", 0, "bench")[1], mock.call([]))

    def test_wrong_usage(self):
        for arguments in ([], ["fly"], ["train", "--out", "/tmp/a"], ["train", "--out", "../../a"]):
            code, called, said = self.modal_run("train", 0, *arguments)
            self.assertEqual((code, called), (2, None), said)

    def test_help_needs_no_account(self):
        for command in (
            [str(HERE / "modal_app.py"), "--help"],
            ["-m", "modal", "run", str(HERE / "modal_app.py"), "--help"],
        ):
            done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=True)
            self.assertIn("Usage" if "-m" in command else "train-many", done.stdout)


class Definition(unittest.TestCase):
    def test_functions_are_as_their_jobs_need(self):
        asked, clusters = [], []
        function, clustered = modal.App.function, modal.clustered
        record = lambda seen, real: lambda *args, **kwargs: seen.append(kwargs) or real(*args, **kwargs)
        with (
            mock.patch.object(modal.App, "function", record(asked, function)),
            mock.patch.object(modal, "clustered", record(clusters, clustered)),
            mock.patch.dict(os.environ, {"SSMV_NODES": "4"}),
        ):
            runpy.run_path(str(HERE / "modal_app.py"))
        train, train_many, bench, smoke = asked
        self.assertEqual([f["gpu"] for f in asked], ["H100:8", "H100:8", "H100", "H100"])
        self.assertEqual(clusters, [{"size": 4, "rdma": True}])
        # A container must find the cluster as large as its caller did.
        self.assertEqual(train_many["env"], {"SSMV_NODES": "4"})
        self.assertEqual(["secrets" in f for f in asked], [False, True, False, False])
        self.assertTrue(all(f["retries"].max_retries > 0 and "/vol" in f["volumes"] for f in (train, train_many)))
        self.assertTrue(all("retries" not in f for f in (bench, smoke)))

    def test_a_container_needs_no_sources(self):
        with tempfile.TemporaryDirectory() as folder, mock.patch.object(modal, "is_local", lambda: False):
            copy = Path(folder) / "modal_app.py"
            copy.write_bytes((HERE / "modal_app.py").read_bytes())
            runpy.run_path(str(copy))


if __name__ == "__main__":
    unittest.main()
