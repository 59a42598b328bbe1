"""Talk to a model about a picture, a sound, or both.

Boxes of a reply are printed below it, in pixels of the picture. With --prompt the
turns are given (repeat it for a dialogue); without, questions are read from the
terminal. There, "/image FILE" shows another picture and starts anew, "/new" starts
anew, an empty line or "/quit" ends.
"""

import argparse
import contextlib
import sys

from mmvlm.utils.entry import run_tool, user_errors


def parse_args(argv=None):
    from mmengine.config import DictAction

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="work dir, config file, or name of a config")
    parser.add_argument(
        "checkpoint",
        nargs="?",
        help="of mmvlm; none: the work dir's newest, or pretrained parts",
    )
    parser.add_argument("--image", help="picture file; none: text only")
    parser.add_argument(
        "--input",
        action="append",
        default=[],
        metavar="KIND=FILE",
        help="another input of the model, such as audio=bark.wav; may be repeated",
    )
    parser.add_argument(
        "--prompt",
        nargs="+",
        action="extend",
        metavar="TEXT",
        help="questions, the turns of one dialogue",
    )
    parser.add_argument("--system", help="system text in place of the template's own")
    parser.add_argument("--max-new-tokens", type=int, help="limit of a reply")
    parser.add_argument(
        "--temperature", type=float, help="0: the best token; above: sampling"
    )
    parser.add_argument("--device", help="default: cuda if there is one")
    parser.add_argument("--tiny", action="store_true", help="the config's tiny twin")
    parser.add_argument("--no-stream", action="store_true", help="print whole replies")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, metavar="K=V")
    return parser.parse_args(argv)


def generation_options(args):
    options = {}
    if args.max_new_tokens is not None:
        options["max_new_tokens"] = args.max_new_tokens
    if args.temperature is not None:
        options["do_sample"] = args.temperature > 0
        if args.temperature > 0:
            options["temperature"] = args.temperature
    return options


def load(args):
    from mmengine.logging import MMLogger

    from mmvlm.apis import VLMInferencer

    MMLogger.get_current_instance().setLevel("WARNING")
    return VLMInferencer(
        args.config,
        args.checkpoint,
        args.device,
        cfg_options=args.cfg_options,
        tiny=args.tiny,
        system=args.system,
        generation=generation_options(args),
    )


def other_inputs(args):
    found = {}
    for text in args.input:
        kind, equals, path = text.partition("=")
        if not kind or not equals or not path:
            raise ValueError(f"--input {text}: expected KIND=FILE, such as audio=a.wav")
        found.setdefault(kind, []).append(path)
    return found


def show_regions(sample):
    for region in sample.pred_regions:
        for row in region.boxes.xyxy:
            place = row[:2] if region.kind == "point" else row
            numbers = " ".join(f"{value:.1f}" for value in place)
            print(f"  {region.phrase or region.kind}: {numbers}")
    for problem in sample.problems:
        print(f"  not read: {problem}")


class Dialogue:
    """A picture, other inputs, and the turns about them."""

    def __init__(self, talk, image, media, stream):
        self.talk, self.media, self.stream = talk, media, stream
        self.show(image)

    def show(self, image):
        """Take another picture and begin anew."""
        # Read at once, so that a wrong file is told before the first question.
        self.image = None if image is None else self.talk.read_image(image)
        self.history = []

    def ask(self, prompt):
        """Print the reply as it comes, and remember the turn."""
        turn = (self.image, prompt, self.history)
        if self.stream:
            sample = self._streamed(self.talk.stream(*turn, media=self.media))
        else:
            sample = self.talk.answer(*turn, media=self.media)
            print(sample.pred_text, flush=True)
        show_regions(sample)
        self.history.append((prompt, sample.pred_text))

    def _streamed(self, pieces):
        """Print pieces as they come; give the sample that stands at their end."""
        while True:
            try:
                print(next(pieces), end="", flush=True)
            except StopIteration as end:
                print(flush=True)
                return end.value


def questions():
    while True:
        try:
            line = input("> ").strip()
        except EOFError:
            return
        if line in ("", "/quit"):
            return
        yield line


def interact(dialogue):
    for line in questions():
        command, _, rest = line.partition(" ")
        try:
            if command == "/image":
                dialogue.show(rest.strip())
            elif command == "/new":
                dialogue.history = []
            elif command.startswith("/"):
                print(f"no command {command}; there are /image FILE, /new, /quit")
            else:
                dialogue.ask(line)
        except ValueError as error:
            print(f"error: {error}")


def main(argv=None):
    args = parse_args(argv)
    if args.temperature is not None and args.temperature < 0:
        return f"error: --temperature {args.temperature}, expected 0 or above"
    try:
        # Libraries log to stdout when they are imported; only the dialogue belongs
        # there.
        with contextlib.redirect_stdout(sys.stderr):
            talk = load(args)
        media = other_inputs(args)
        dialogue = Dialogue(talk, args.image, media, not args.no_stream)
        if args.prompt is None:
            interact(dialogue)
        for prompt in args.prompt or []:
            print(f"> {prompt}", flush=True)
            dialogue.ask(prompt)
    except user_errors() as error:
        return f"error: {error}"
    return 0


if __name__ == "__main__":
    run_tool(main)
