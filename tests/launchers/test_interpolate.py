"""`idgenrec interpolate`: what is printed, what is written, what a mistake says."""

import shutil


def test_it_prints_the_checkpoint_that_it_made(idgenrec, trained_run, tmp_path):
    run = shutil.copytree(trained_run[1], tmp_path / "run")
    made = run / "checkpoints" / "interpolated-0.7"
    status, said, wrong = idgenrec("interpolate", "--checkpoint", run, "--share", 0.7)
    assert status == 0, wrong
    assert said.splitlines()[-1] == str(made) and (made / "COMPLETE").is_file()
    status, _, wrong = idgenrec("interpolate", "--checkpoint", run, "--share", 7)
    assert status == 2 and wrong.splitlines()[-1].startswith("error: share is 7.0; it must be between 0 and 1")
