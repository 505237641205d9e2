"""A person at a terminal: runs a command on one, and types when it has said something.

Arguments: a JSON list of [what it says, what is then typed], then the command. Prints, as JSON,
everything that the terminal showed and the exit status.
"""
import json
import os
import pty
import select
import sys
import time

steps = json.loads(sys.argv[1])
process, terminal = pty.fork()
if process == 0:
    os.execvp(sys.argv[2], sys.argv[2:])

shown = b""
place = 0
deadline = time.monotonic() + 60
while True:
    while steps and steps[0][0].encode() in shown[place:]:
        said, typed = steps.pop(0)
        place = shown.find(said.encode(), place) + len(said.encode())
        os.write(terminal, typed.encode())
    ready, _, _ = select.select([terminal], [], [], max(0, deadline - time.monotonic()))
    if not ready:
        os.kill(process, 9)
        break
    try:
        piece = os.read(terminal, 65536)
    except OSError:
        piece = b""
    if not piece:
        break
    shown += piece
_, status = os.waitpid(process, 0)
print(json.dumps({
    "shown": shown.decode(errors="replace"),
    "status": os.waitstatus_to_exitcode(status),
    "unsaid": [said for said, _ in steps],
}))
