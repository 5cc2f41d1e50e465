"""quern chat at a terminal."""
import json
import os
import pathlib
import signal
import stat
import tempfile
import time

import cli
from terminal import Terminal
from test_chat import ENDLESS, SENTENCE, SYNTHETIC, length

EDITING = cli.quern("version", "--json").json()["line_editing"]
READY = "\x1b[?2004h" if EDITING else ""  # a new line is being read: from here on pastes are told apart
HISTORY = tempfile.TemporaryDirectory()


class Conversation(Terminal):
    def __init__(self, *args, **env):
        super().__init__("chat", "-m", SYNTHETIC, "--temp", "0", *args, **{"XDG_STATE_HOME": HISTORY.name, **env})
        self.expect("/help lists the commands")
        self.prompt()

    def prompt(self, text="> "):
        self.expect(READY + text)
        if EDITING:
            self.edits()

    def say(self, text):
        """Types a message, and waits for its answer and the next prompt."""
        self.type(text + "\r")
        self.expect(SENTENCE)
        self.prompt()

    def leave(self):
        self.type("\x04")  # Ctrl-D
        assert self.ends() == 0


def needs_editing():
    if not EDITING:
        raise cli.Skip("this build has no line editing")


def test_conversation():
    with Conversation() as t:
        for _ in range(2):
            t.say("Hello")
        t.type("/stats\r")
        t.expect(f"evaluated {length('Hello') + 4:>9} tokens")
        t.expect("t/s")
        t.prompt()
        t.type("/nonsense\r")
        t.expect("there is no command /nonsense")
        t.prompt()
        t.type("\r")
        t.prompt()
        t.leave()
        assert t.shown.count(b"t/s") == 4  # what /stats said, and nothing else


def test_lines():
    with Conversation() as t:
        t.type('first\\\r')
        t.prompt("... ")
        t.say("second")
        t.type('"""\r')
        t.prompt("... ")
        t.type("/quit\r")
        t.prompt("... ")
        t.say('"""')
        t.type("/quit\r")
        assert t.ends() == 0


def test_interrupted_answer():
    """What there is of the answer stays in the conversation, which goes on."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "conversation.json"
        with Conversation("-c", "200000", *ENDLESS) as t:
            for _ in range(2):
                t.type("Hello\r")
                t.expect(SENTENCE[:30])
                t.type("\x03")
                t.prompt()
            t.type(f"/save {path}\r")
            t.expect("saved 4 messages")
            t.prompt()
            t.type("/stats\r")
            t.expect("stopped by interrupted")
            t.prompt()
            t.leave()
        messages = json.loads(path.read_text())["messages"]
        assert [m["role"] for m in messages] == ["user", "assistant"] * 2
        assert messages[1]["content"].startswith(SENTENCE[:30])


def test_interrupt_at_the_prompt():
    with Conversation() as t:
        if EDITING:
            t.type("words that are given up")
            t.expect("given up")
            t.type("\x03")
            t.prompt()
            t.type("\x03")
            t.expect("Ctrl-C once more")
            t.prompt()
            t.type("Hello\r")  # it counts only twice in a row
            t.expect(SENTENCE)
            t.prompt()
        t.type("\x03")
        t.expect("Ctrl-C once more")
        t.prompt()
        t.type("\x03")
        assert t.ends() == 0
        assert b"taken back" not in t.shown


def test_interrupt_while_writing_a_block():
    with Conversation() as t:
        t.type('"""\r')
        t.prompt("... ")
        t.type("lost\r")
        t.prompt("... ")
        t.type("\x03")
        t.prompt()
        t.say("Hello")
        t.type("/stats\r")
        t.expect(f"prompt {length('Hello') + 4:>12} tokens")
        t.prompt()
        t.leave()


def test_terminated():
    with Conversation() as t:
        os.kill(t.pid, signal.SIGTERM)
        assert t.ends() in (0, 130)
    with Conversation("-c", "200000", *ENDLESS) as t:
        t.type("Hello\r")
        t.expect(SENTENCE[:30])
        begin = time.monotonic()
        os.kill(t.pid, signal.SIGTERM)
        assert t.ends() == 130
        assert time.monotonic() - begin < cli.PATIENCE


def test_history():
    needs_editing()
    with tempfile.TemporaryDirectory() as folder:
        for state in ({"XDG_STATE_HOME": folder}, {"XDG_STATE_HOME": "", "HOME": folder}):
            with Conversation(**state) as t:
                t.say("caf\u00e9 \U0001f600")
                t.type("/quit\r")
                assert t.ends() == 0
            with Conversation(**state) as t:
                t.type("\x1b[A\x1b[A")  # twice up
                t.expect("caf\u00e9")
                t.say("")
                t.leave()
        for path in ("quern/chat_history", ".local/state/quern/chat_history"):
            path = pathlib.Path(folder) / path
            assert b"/quit" in path.read_bytes()
            assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_pasted_text():
    """Lines that are pasted in one go are one message."""
    needs_editing()
    with Conversation() as t:
        t.say("\x1b[200~one\ntwo\r\nthree\x1b[201~")
        t.type("/stats\r")
        t.expect(f"prompt {length(chr(10).join(['one', 'two', 'three'])) + 4:>12} tokens")
        t.prompt()
        t.say('\x1b[200~"""\n/quit\n"""\nrest\x1b[201~')
        t.leave()


if __name__ == "__main__":
    cli.main(globals())
