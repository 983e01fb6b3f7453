"""``seqmamba serve RUN``: answer with a trained model over HTTP."""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec

from seqmamba.cli.arguments import add_device, add_model
from seqmamba.errors import UserError

HELP = "answer with a trained classifier over HTTP, on this machine only unless told otherwise"
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]", "::1")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_model(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="default: %(default)s")
    parser.add_argument("--name", action="append", default=[], help="another host name it answers to")
    parser.add_argument("--workers", type=int, default=1, help="processes, default: %(default)s")
    limits = {
        "--max-mb": (32, "megabytes of a request"),
        "--max-items": (10_000, "sequences of a request"),
        "--max-bases": (1_000_000, "bases of a sequence"),
        "--max-audio-seconds": (600, "seconds of a recording"),
        "--max-seconds": (60, "seconds for a request to arrive, and to be answered"),
        "--max-waiting": (512, "requests that wait; further ones get 503"),
    }
    for name, (value, text) in limits.items():
        parser.add_argument(name, type=int, default=value, metavar="N", help=f"{text} (default: %(default)s)")
    add_device(parser)


def run(args: argparse.Namespace) -> int | None:
    """Serve until interrupted or terminated; what is being answered then is answered."""
    if find_spec("uvicorn") is None or find_spec("starlette") is None:
        raise UserError(
            "serve: starlette and uvicorn are not installed", hint="pip install 'seqmamba[serve]'"
        )
    import uvicorn

    from seqmamba.nn.options import require_whole
    from seqmamba.serving.app import Server
    from seqmamba.serving.limits import Limits

    require_whole("--workers", args.workers)
    limits = Limits(
        body_bytes=args.max_mb * 10**6,
        items=args.max_items,
        bases=args.max_bases,
        audio_seconds=args.max_audio_seconds,
        seconds=args.max_seconds,
        waiting=args.max_waiting,
    )
    if args.host not in _LOOPBACK:
        print(f"warning: whoever reaches {args.host}:{args.port} can use this server", file=sys.stderr)
    server = Server(str(args.model), args.device, args.workers, limits)
    server.load()
    application = server.application([*_LOOPBACK, args.host, *args.name])
    config = uvicorn.Config(
        application,
        host=args.host,
        port=args.port,
        log_level="warning",
        timeout_graceful_shutdown=args.max_seconds,
        limit_concurrency=2 * args.max_waiting,
        server_header=False,
    )
    print(f"http://{args.host}:{args.port} answers with {args.model}; Ctrl-C ends it", file=sys.stderr)
    web = uvicorn.Server(config)
    web.run()
    return 0 if web.started else 1
