"""Progress in a log: a line a minute, with the time left."""

import io

from rich.console import Console

from memedit.cli.output import LogLine, duration


def test_a_log_gets_a_line_a_minute_with_the_time_left() -> None:
    now = 0.0
    console = Console(file=io.StringIO(), width=200)
    log = LogLine(console, clock=lambda: now)
    for done in range(1, 10):
        now = 20.0 * done
        log.progress("training", done, 10)
    log.progress("asking", 1, 3)
    now += 70
    log.progress("asking", 2, 3)
    assert console.file.getvalue().splitlines() == [  # type: ignore[attr-defined]
        "training: 3/10, about 2:20 min left",
        "training: 6/10, about 1:20 min left",
        "training: 9/10, about 20 s left",
        "asking: 2/3, about 1:10 min left",
    ]


def test_work_that_goes_on_after_a_stop_counts_its_own_pace() -> None:
    now = 0.0
    console = Console(file=io.StringIO(), width=200)
    log = LogLine(console, clock=lambda: now)
    log.progress("training", 400, 440)
    now = 100.0
    log.progress("training", 410, 440)
    assert console.file.getvalue() == "training: 410/440, about 5:00 min left\n"  # type: ignore[attr-defined]


def test_the_next_stage_of_the_same_work_counts_its_own_pace() -> None:
    now = 0.0
    console = Console(file=io.StringIO(), width=200)
    log = LogLine(console, clock=lambda: now)
    for stage, pace in ((18, 60.0), (600, 2.0)):
        for done in range(1, 4):
            log.progress("training", done, stage)
            now += pace
    now += 60
    log.progress("training", 35, 600)
    (*_, last) = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert last == "training: 35/600, about 18:17 min left"  # 34 steps in 66 s


def test_durations() -> None:
    assert [duration(s) for s in (0.2, 59, 61, 3600)] == ["0 s", "59 s", "1:01 min", "60:00 min"]
