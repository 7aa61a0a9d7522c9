"""Writes `drift.csv`: the rows at which River's detectors say that a stream has drifted, or warn.

    python3 -m venv venv && venv/bin/pip install river==0.26.1
    venv/bin/python make_drift_fixtures.py

The streams are functions of the number of a row, and the same in `src/drift/tests.rs`.
"""

from pathlib import Path

from river import drift

ROWS = 200_000
MASK = (1 << 64) - 1


def uniform(row, salt):
    """SplitMix64 of the row and the salt."""
    mixed = (row * 16 + salt) * 0x9E3779B97F4A7C15 & MASK
    mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 & MASK
    mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB & MASK
    return (mixed ^ mixed >> 31) >> 11


def below(row, salt, share):
    return float(uniform(row, salt) / (1 << 53) < share)


def numbers(row):
    parts = sum(uniform(row, salt) / (1 << 53) for salt in (2, 3, 4))
    return parts + (row // 5000 % 3) * 0.25


STREAMS = {
    "slow": lambda row: below(row, 1, 0.1 if row < ROWS // 2 else 0.2),
    "steps": lambda row: below(row, 5, (0.1, 0.4, 0.2)[row // 2000 % 3]),
    "numbers": numbers,
}

DETECTORS = {
    "adwin": (lambda: drift.ADWIN(), {"slow", "steps", "numbers"}),
    "adwin_often": (lambda: drift.ADWIN(delta=0.01, clock=1), {"steps", "numbers"}),
    "page_hinkley": (lambda: drift.PageHinkley(), {"slow", "steps", "numbers"}),
    "page_hinkley_down": (lambda: drift.PageHinkley(mode="down", threshold=20, delta=0.01), {"steps", "numbers"}),
    "ddm": (lambda: drift.binary.DDM(), {"slow", "steps"}),
    "eddm": (lambda: drift.binary.EDDM(), {"slow", "steps"}),
    "fhddm": (lambda: drift.binary.FHDDM(), {"slow", "steps"}),
    "hddm_a": (lambda: drift.binary.HDDMA(), {"slow", "steps"}),
    "hddm_a_both": (lambda: drift.binary.HDDMA(two_sided_test=True), {"steps"}),
    "hddm_w": (lambda: drift.binary.HDDMW(), {"slow", "steps"}),
    "hddm_w_both": (lambda: drift.binary.HDDMW(two_sided_test=True), {"steps"}),
}


def main():
    lines = ["detector,stream,drifts,warnings,rows"]
    for name, (make, streams) in DETECTORS.items():
        for stream in sorted(streams):
            detector, drifts, warnings = make(), 0, 0
            rows = []
            for row in range(ROWS):
                value = STREAMS[stream](row)
                # River's counts hits, ours errors.
                detector.update(1 - value if name == "fhddm" else value)
                if detector.drift_detected:
                    drifts += 1
                    rows.append(row)
                elif getattr(detector, "warning_detected", False):
                    warnings += 1
            # The first ones say where two would part.
            lines.append(f"{name},{stream},{drifts},{warnings},{' '.join(map(str, rows[:40]))}")
    Path(__file__).with_name("drift.csv").write_text("\n".join(lines) + "\n")


main()
