"""The signals that stop a command as Ctrl-C does."""

import signal


def stop_signals() -> tuple[signal.Signals, ...]:
    """Return SIGTERM, by which schedulers and containers stop, and SIGHUP, by which a terminal does that goes away.

    SIGHUP is left out where it is ignored: whoever started us, as `nohup` does, wants us to outlive the terminal.
    """
    outlives = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return (signal.SIGTERM,) if outlives else (signal.SIGTERM, signal.SIGHUP)
