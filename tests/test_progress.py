"""gaugan.progress: the line tells the rate of now, not of the whole run."""

import pytest

from gaugan import progress
from gaugan.progress import Pace, Progress, duration


def test_durations_read_like_a_clock() -> None:
    assert [duration(seconds) for seconds in (0, 65, 3700, 59.6, -3)] == ["0:00", "1:05", "1:01:40", "1:00", "0:00"]


def test_a_resumed_run_counts_only_what_it_did_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    meter = Progress(total=2000, done=400)
    assert meter.rate() == 0
    now = 110.0
    assert meter.line(430, "loss 0.5") == "430/2000 step   22 %  3 step/s  ETA 8:43  loss 0.5"
    assert meter.rate() == 3


def test_the_rate_follows_the_last_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    meter = Progress(total=10_000, window_s=100)
    for minute in range(1, 11):
        now = minute * 60.0
        meter.line(minute * 600)
    now += 60
    meter.line(6060)
    now += 60
    meter.line(6120)
    assert meter.rate() == pytest.approx(1.0)


def test_short_work_stays_silent_and_long_work_tells_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    shown = Progress(100)
    for done in range(1, 101):
        now[0] = done * 0.1
        shown.tell(done, "drawn")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["50/100", "100/100"] and "ETA 0:05" in lines[0]


def test_no_total_and_no_time_passed_give_a_line_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress.time, "monotonic", lambda: 5.0)
    assert Progress(total=0).line(0) == "0/0 step  100 %  0 step/s  ETA ?"
    assert Progress(total=4, unit="image").line(4).startswith("4/4 image  100 %")


def test_a_pace_leaves_the_warming_up_out_of_the_steady_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    pace = Pace()
    assert pace.figures()["steady_per_s"] == 0
    pace.skip = 2
    for at, count in ((10.0, 16), (11.0, 16), (12.0, 16), (13.0, 16)):
        now = at
        pace.add(count)
    now = 20.0
    figures = {"labelled_now": 64, "seconds": 20.0, "pictures_per_s": 3.2, "first_s": 10.0, "steady_per_s": 16.0}
    assert pace.figures() == figures
