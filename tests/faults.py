"""Faults of docs/faults.md as edits that put them back, and the tests that then have to fail.

Enters: nothing. Leaves: `FAULTS`. Must hold: each `now` stands exactly once in its file (`test_faults.py`, so that no
edit goes stale); that the tests fail is tried by `make soak` (`soak/test_faults_put_back.py`).
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """In `path` the text `now` becomes `then`; at least one of `tests` (below tests/) fails."""

    name: str
    path: str
    now: str
    then: str
    tests: tuple[str, ...]


FAULTS = (
    Fault(
        "1 a prompt knows its target",
        "pretrain/data/batches.py",
        "self.prompts.build([self.shown[row] for row in sample.history]",
        "self.prompts.build([self.shown[row] for row in [*sample.history, sample.target]]",
        ("pretrain/test_batches.py::test_no_input_knows_its_target",),
    ),
    Fault(
        "1 a user's ID knows the target",
        "pretrain/data/batches.py",
        "self.user_ids([sample.history if sample else NO_HISTORY for sample in samples])",
        "self.user_ids([np.append(sample.history, sample.target) if sample else NO_HISTORY for sample in samples])",
        ("pretrain/test_user_ids.py::test_batches_name_the_user_by_what_was_bought_before_the_target",),
    ),
    Fault(
        "2 sequences sorted by id",
        "shards/build/sequences.py",
        "if share >= MAX_SHARE_SORTED and not allow:",
        "if share > 1 and not allow:",
        ("shards/test_build.py::test_a_build_refuses_asin_sorted_sequences",),
    ),
    Fault(
        "3 ranks weigh their own tokens",
        "pretrain/training/engine.py",
        "self.world.size * self.micro_batches / num_targets",
        "self.micro_batches / num_targets",
        ("pretrain/test_engine.py::test_two_ranks_with_half_batches_are_one_rank_with_whole_ones",),
    ),
    Fault(
        "4 slots that are not the ID's",
        "pretrain/data/prompts.py",
        "offset += range(len(ids))",
        "offset += reversed(range(len(ids)))",
        ("pretrain/test_batches.py::test_slots_point_at_the_id_token_that_stands_there",),
    ),
    Fault(
        "5 weights that are no softmax",
        "pretrain/model/soft_ids.py",
        "soft_MD = expected_embeddings(hidden_ME, head_VE, embedding_VD)",
        "soft_MD = torch.log_softmax(hidden_ME @ head_VE.T, -1) @ embedding_VD",
        ("pretrain/test_soft_ids.py",),
    ),
    Fault(
        "6 padding in the loss",
        "pretrain/data/batches.py",
        "labels_BT = pad_rows([[*target, eos] if len(target) else [] for target in targets], IGNORED)",
        "labels_BT = pad_rows([[*target, eos] if len(target) else [] for target in targets], 0)",
        ("pretrain/test_batches.py::test_padding_and_fillers_carry_no_loss",),
    ),
    Fault(
        "7 IDs of the first phase for ever",
        "pretrain/training/schedule.py",
        'and not (made and config.refresh_ids == "never")',
        "and not made",
        ("pretrain/test_schedule.py::test_ids_are_current_whenever_they_are_read",),
    ),
    Fault(
        "8 users judged twice",
        "pretrain/runtime/world.py",
        "return numbers[(numbers // block) % self.size == self.rank]",
        "return numbers[(numbers // block) % max(1, self.size - 1) == self.rank % max(1, self.size - 1)]",
        ("pretrain/test_ranking.py::test_every_user_is_validated_once_whatever_the_ranks",),
    ),
    Fault(
        "10 empty IDs",
        "pretrain/ids/book.py",
        "            if not key:\n",
        "            if False:\n",
        ("pretrain/test_book.py::test_what_verify_refuses",),
    ),
    Fault(
        "11 a template that names a data set",
        "pretrain/config/prompt.py",
        '("history :", "next item :")',
        '("beauty history :", "next item :")',
        ("pretrain/test_prompts.py::test_ten_templates_and_none_names_a_data_set",),
    ),
    Fault(
        "12 who proposes first holds",
        "pretrain/ids/assign.py",
        "if holder is None or row < holder:",
        "if holder is None:",
        ("pretrain/test_assign.py",),
    ),
    Fault(
        "13 nobody sees that nothing moves",
        "pretrain/training/engine.py",
        "return changed / total if total else 0.0",
        "return 1.0",
        ("pretrain/test_engine.py::test_a_tiny_rate_moves_few_weights",),
    ),
    Fault(
        "signals that are ignored",
        "launchers/slurm/requeue.py",
        "        signal.signal(number, _ignore)\n",
        "        signal.signal(number, signal.SIG_IGN)\n",
        ("launchers/test_slurm_job.py",),
    ),
    Fault(
        "a penalty above the largest",
        "pretrain/config/ids.py",
        "min(self.penalty_start + step * self.penalty_step, self.penalty_max)",
        "self.penalty_start + step * self.penalty_step",
        ("pretrain/test_job.py::test_no_penalty_is_above_the_largest_and_that_one_is_tried",),
    ),
    Fault(
        "deaf to the second Ctrl-C",
        "pretrain/runtime/interrupt.py",
        "if number == signal.SIGINT and self._pressed:",
        "if number == signal.SIGINT and self.heard == signal.SIGINT:",
        ("pretrain/test_interrupt.py::test_what_a_launcher_sends_meanwhile_makes_no_rank_deaf",),
    ),
    Fault(
        "judged before the window is filled twice",
        "pretrain/training/loss_spikes.py",
        "LEAST = 2 * WINDOW",
        "LEAST = 1",
        ("pretrain/test_resume.py::test_what_is_a_bad_step", "pretrain/test_life_cycle.py"),
    ),
    Fault(
        "a phase begins while the last one is being saved",
        "pretrain/training/train.py",
        "    run.finish_save()  # it reads what the engine changes; the engine takes up what it holds\n",
        "",
        ("pretrain/test_life_cycle.py",),
    ),
    Fault(
        "a catalogue shrinks because users were drawn",
        "shards/build/catalogue.py",
        "if selection.every_user and not chosen.all():",
        "if False:",
        ("shards/test_catalogue.py::test_a_catalogue_does_not_shrink_because_users_were_drawn",),
    ),
    Fault(
        "weights that are lacking are drawn",
        "pretrain/model/weights.py",
        "    if misfit:\n        raise ValueError(f\"cannot load {family} from '{name}': {misfit.words()}\")\n",
        "",
        ("pretrain/test_weights.py::test_a_folder_that_is_not_whole_is_refused_by_name",),
    ),
    Fault(
        "a lone symbol is a text",
        "shards/text.py",
        "return value in MISSING_WORDS or not any(map(str.isalnum, value))",
        "return value in MISSING_WORDS",
        ("shards/test_text.py::test_missing_values_read_na",),
    ),
    Fault(
        "UTF-16 is read",
        "shards/readers/lines.py",
        "            if is_utf_16(chunk):\n",
        "            if False:\n",
        ("shards/test_lines.py::test_utf_16_is_named",),
    ),
    Fault(
        "results in another store",
        "zeroshot/publish.py",
        "    return present_uri(run, uri, trained.run_id)\n",
        "    return default_uri(run.parent)\n",
        ("zeroshot/test_publish.py",),
    ),
    Fault(
        "no locks, no work",
        "shards/files/atomic.py",
        "            if error.errno not in WITHOUT_LOCKS:\n",
        "            if True:\n",
        ("shards/test_locks.py",),
    ),
    Fault(
        "waits for work inside a collective",
        "pretrain/runtime/world.py",
        "        self._meet()\n        values: list[Any]",
        "        values: list[Any]",
        ("pretrain/test_world.py::test_no_wait_for_work_meets_the_time_limit_of_collectives",),
    ),
    Fault(
        "a Ctrl-C in a finalizer is dropped",
        "launchers/cli.py",
        "    sys.unraisablehook = _interrupt_again\n",
        "",
        ("launchers/test_cli.py::test_ctrl_c_in_a_finalizer_is_not_lost",),
    ),
    Fault(
        "workers of a build print a Ctrl-C",
        "shards/workers.py",
        "else signal.SIG_DFL",
        "else signal.default_int_handler",
        ("shards/test_stages.py::test_workers_end_with_their_parent",),
    ),
)
