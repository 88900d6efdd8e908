"""A subject for the benchmarks' children whose memory and time are known; light, so that its process starts fast."""

import time


def holder(megabytes: int):
    """Holds memory; sleeps and fails as it is told."""
    kept = bytearray(b"x") * (megabytes << 20)

    def run(sleep_s: float = 0.0, error: str | None = None) -> dict:
        time.sleep(sleep_s)
        if error:
            raise ValueError(error)
        print("libraries print what they like")
        return {"held": len(kept)}

    return run
