"""Talk to a model about an image, a sound, or both.

Boxes of a reply are printed below it, in pixels of the image. With --prompt the
turns are given (repeat it for a dialogue); without, questions are read from the
terminal. There, "/image FILE" shows another image and starts anew, "/new" starts
anew, an empty line or "/quit" ends.

Questions point with <region1>, <region2>, ...: the boxes, points and masks of --box,
--point and --mask in their order, or of "/box X1,Y1,X2,Y2", "/point X,Y" and "/mask
FILE" in a dialogue. Coordinates are pixels of the file as it is stored; its EXIF
orientation turns it only where the config's LoadImages does (exif="apply").
"""

import argparse
import contextlib
import json
import re
import sys
from dataclasses import replace

from mmvlm.utils.entry import run_tool, user_errors

COMMANDS = "/image FILE, /box X1,Y1,X2,Y2, /point X,Y, /mask FILE, /new, /quit"


class AddRegion(argparse.Action):
    """Append what an option points at to the list that all of them share."""

    def __call__(self, parser, namespace, values, option_string=None):
        """Read what the option says; see argparse."""
        kind = option_string.lstrip("-")
        try:
            region = region_source(kind, values)
        except ValueError as error:
            parser.error(str(error))
        regions = [*getattr(namespace, self.dest), region]
        setattr(namespace, self.dest, regions)


def region_source(kind, text):
    """Return what ``--box 1,2,3,4`` and its like say, as chat() takes it."""
    if kind == "mask":
        return {"mask": text}
    count = {"box": 4, "point": 2}[kind]
    try:
        numbers = tuple(float(number) for number in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != count:
        raise ValueError(
            f"{kind} {text!r}: expected {count} numbers, as in "
            f"{','.join(map(str, range(10, 10 * count + 1, 10)))}"
        )
    return {kind: numbers}


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
    parser.add_argument("--image", help="image file; none: text only")
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
    parser.add_argument(
        *("--box", "--point", "--mask"),
        action=AddRegion,
        dest="regions",
        default=[],
        metavar="REGION",
        help="X1,Y1,X2,Y2 (box), X,Y (point) or a file (mask), in order <region1>, ...",
    )
    parser.add_argument(
        "--json", metavar="FILE", help="write the last reply and its regions here"
    )
    parser.add_argument(
        "--draw", metavar="FILE", help="draw the last reply (.png) or all (.html) here"
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
            score = "" if region.score is None else f" (score {region.score:.2f})"
            print(f"  {region.phrase or region.kind}: {numbers}{score}")
    for problem in sample.problems:
        print(f"  not read: {problem}")


class Dialogue:
    """An image, other inputs, regions, and the turns about them."""

    def __init__(self, talk, image, media, stream, outputs=(None, None)):
        self.talk, self.media, self.stream = talk, media, stream
        self.json, self.draw = outputs
        self.show(image)

    def show(self, image):
        """Take another image and begin anew."""
        # Read at once, so that a wrong file is told before the first question.
        self.name = image
        self.image = None if image is None else self.talk.read_image(image)
        self.begin()

    def begin(self):
        """Forget all turns and regions."""
        self.history, self.regions, self.views = [], {}, []

    def point(self, source):
        """Remember a region; return what stands for it in questions."""
        number = len(self.regions) + 1
        what = f"region {number}"
        self.regions[number] = self.talk.read_region(self.image, source, what)
        return f"<region{number}>"

    def ask(self, prompt):
        """Print the reply as it comes, and remember the turn."""
        said = " ".join([*(question for question, _ in self.history), prompt])
        meant = {n: one for n, one in self.regions.items() if f"<region{n}>" in said}
        turn = (self.image, prompt, self.history)
        inputs = dict(media=self.media, regions=meant)
        if self.stream:
            sample = self._streamed(self.talk.stream(*turn, **inputs))
        else:
            sample = self.talk.answer(*turn, **inputs)
            print(sample.pred_text, flush=True)
        show_regions(sample)
        self._write(prompt, sample)
        # The sample tells its own tokens from words that spell them.
        self.history.append((prompt, sample))

    def _streamed(self, pieces):
        """Print pieces as they come; give the sample that stands at their end."""
        while True:
            try:
                print(next(pieces), end="", flush=True)
            except StopIteration as end:
                print(flush=True)
                return end.value

    def _write(self, prompt, sample):
        """Write the files that were asked for."""
        if self.json is None and self.draw is None:
            return
        from mmvlm.utils.files import write_atomic
        from mmvlm.visualization.replies import (
            ReplyView,
            region_entries,
            write_drawing,
        )

        numbers = dict.fromkeys(map(int, re.findall(r"<region(\d+)>", prompt)))
        # Drawn by the names that the question calls them.
        prompted = tuple(
            replace(self.regions[n], phrase=f"region{n}")
            for n in numbers
            if n in self.regions
        )
        view = ReplyView(
            prompt,
            sample.pred_text,
            self.image,
            regions=sample.pred_regions,
            spans=sample.pred_spans,
            problems=sample.problems,
            prompted=prompted,
        )
        self.views.append(view)
        if self.json is not None:
            content = dict(
                image=self.name,
                prompt=prompt,
                history=[(question, one.pred_text) for question, one in self.history],
                text=view.text,
                regions=region_entries(view.regions, view.spans),
                problems=list(view.problems),
            )
            write_atomic(self.json, json.dumps(content, indent=2))
        if self.draw is not None:
            write_drawing(self.draw, self.views)


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
                dialogue.begin()
            elif command in ("/box", "/point", "/mask"):
                source = region_source(command[1:], rest.strip())
                print(f"{dialogue.point(source)} stands for it in questions")
            elif command.startswith("/"):
                print(f"no command {command}; there are {COMMANDS}")
            else:
                dialogue.ask(line)
        except ValueError as error:
            print(f"error: {error}")


def main(argv=None):
    args = parse_args(argv)
    if args.temperature is not None and args.temperature < 0:
        return f"error: --temperature {args.temperature}, expected 0 or above"
    if args.draw is not None and not args.draw.lower().endswith((".png", ".html")):
        return f"error: --draw {args.draw}, expected a file .png or .html"
    try:
        # Libraries log to stdout when they are imported; only the dialogue belongs
        # there.
        with contextlib.redirect_stdout(sys.stderr):
            talk = load(args)
        media = other_inputs(args)
        outputs = (args.json, args.draw)
        dialogue = Dialogue(talk, args.image, media, not args.no_stream, outputs)
        for source in args.regions:
            name = dialogue.point(source)
            if args.prompt is not None and name not in " ".join(args.prompt):
                raise ValueError(
                    f"no --prompt mentions {name}, which stands for {source}."
                )
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
