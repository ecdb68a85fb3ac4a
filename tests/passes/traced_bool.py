"""traced_bool.py SOURCE COMPILER...: data-dependent control flow on a traced value must not compile, and the compiler's
message must name the three ways out; without it the same file compiles."""
import subprocess
import sys

source, compiler = sys.argv[1], sys.argv[2:]
command = compiler + ["-std=c++20", "-fsyntax-only", source]
good = subprocess.run(command, capture_output=True, text=True)
if good.returncode != 0:
    sys.exit("the file does not compile even without the decision:\n" + good.stderr)
bad = subprocess.run(command + ["-DDECIDES_BY_DATA"], capture_output=True, text=True)
if bad.returncode == 0:
    sys.exit("a traced value was converted to bool")
for words in ("a traced value has no bool", "trace only the part", "mark the module as a leaf", "custom region"):
    if words not in bad.stderr:
        sys.exit(f"the compiler's message lacks \"{words}\":\n{bad.stderr}")
