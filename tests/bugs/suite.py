"""A copy of the tree, built so that a change of one source costs one compilation and one link, and
the tests in the order in which they are likely to notice it."""

import filecmp
import os
import pathlib
import re
import shutil
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
WORK = pathlib.Path(os.environ.get("QUIRE_BUGS_DIR", ROOT / "build" / "bugs"))
TREE = WORK / "tree"
TEST_TIMEOUT = 180  # seconds; a test that takes longer hangs, and has noticed

# In the order to run them: cheap ones first. Programs that run CUDA kernels on the host, replay traces
# or run the small engine are left out: they are slow, and what they show of lib/ the others show, too.
# The house's tests read the sources' text.
LEFT_OUT = re.compile(r"(twin|engine|replay|golden|layering|readme|cuda_registers|cuda_kernels)_")
LAST = ["policy_test", "partition_test", "reclaimer_learned_test", "determinism_test", "model_test",
        "simulation_test", "strict_test", "fuzz_corpus_test", "scrub_canary_test", "liveness_test", "threads_test",
        "attention_invariance_test", "attention_test", "collision_test"]
OWN_COPY = ["collision_test"]  # of lib/, which is built after each change
OF_KERNELS = re.compile(r"(attention|append_kv|copy_pages|merge|half|schedule|parallel|kernel_check|"
                        r"cuda_prepare|fast_divide)")


def say(text):
    print(text, flush=True)


def copy_tree():
    """Brings the copy up to date; files that did not change keep their time, and so their objects."""
    names = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                           cwd=ROOT, check=True, capture_output=True, text=True).stdout
    wanted = {name for name in names.split("\0") if name and (ROOT / name).is_file()}
    for name in sorted(wanted):
        restore(name)
    for path in sorted(TREE.rglob("*")):
        if path.is_file() and str(path.relative_to(TREE)) not in wanted:
            path.unlink()


def restore(name):
    source, target = ROOT / name, TREE / name
    if target.exists() and filecmp.cmp(source, target, shallow=False):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def configure(kind):
    """kind: plain, or asan. Inline functions are hidden so that a test program's own copy of one
    does not take the place of the library's."""
    folder = WORK / kind
    command = ["cmake", "-S", TREE, "-B", folder, "-G", "Ninja", "-D", "CMAKE_BUILD_TYPE=Debug",
               "-D", "CMAKE_CXX_FLAGS_DEBUG=-O1", "-D", "CMAKE_CXX_FLAGS=-fvisibility-inlines-hidden",
               "-D", "BUILD_SHARED_LIBS=ON", "-D", "CMAKE_LINK_DEPENDS_NO_SHARED=ON",
               "-D", "QUIRE_CUDA=OFF", "-D", "QUIRE_BUILD_TWIN=OFF", "-D", "QUIRE_BUILD_BENCH=ON",
               "-D", "QUIRE_INSTALL=OFF", "-D", "CMAKE_EXPORT_COMPILE_COMMANDS=ON",
               "-D", "QUIRE_SANITIZE=" + ("address,undefined" if kind == "asan" else "")]
    if shutil.which("ccache"):
        command += ["-D", "CMAKE_CXX_COMPILER_LAUNCHER=ccache"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"cmake failed:\n{done.stdout}{done.stderr}")


def build(kind, targets, changed=True):
    """True if it builds; the log is in build/bugs/build.log. Where the tree was changed never by
    ccache: of a file that changed several times within a second it gave an earlier object."""
    jobs = os.environ.get("QUIRE_BUG_JOBS", str(os.cpu_count()))
    environment = {**os.environ, **({"CCACHE_DISABLE": "1"} if changed else {})}
    with open(WORK / "build.log", "w", encoding="utf-8") as log:
        command = ["nice", "ninja", "-C", str(WORK / kind), "-j", jobs, *targets]
        return subprocess.run(command, stdout=log, stderr=log, env=environment).returncode == 0


def tests():
    """Names of the programs, in order. Everything that is not known to be slow comes by name."""
    names = [path.stem for path in (TREE / "tests").glob("*_test.cc")] + OWN_COPY
    names = [name for name in names if not LEFT_OUT.match(name)]
    early = sorted(name for name in names if name not in LAST)
    early.sort(key=lambda name: bool(OF_KERNELS.match(name)))
    return early + [name for name in LAST if name in names]


def program(kind, name):
    folder = WORK / kind / "tests"
    return folder / "collisions" / name if name in OWN_COPY else folder / name


def run_test(kind, name):
    """None if it passes; otherwise the case that failed, or how the program ended."""
    environment = dict(os.environ, GTEST_FAIL_FAST="1", GTEST_COLOR="no")
    try:
        done = subprocess.run(["nice", str(program(kind, name))], capture_output=True,
                              timeout=TEST_TIMEOUT, env=environment, cwd=WORK / kind, check=False)
    except subprocess.TimeoutExpired:
        return f"{name}: does not end"
    if done.returncode in (0, 77):
        return None
    out = done.stdout.decode(errors="replace")
    failed = re.search(r"^\[  FAILED  \] ([\w./]+)", out, re.MULTILINE)
    if failed:
        return f"{name}: {failed.group(1)}"
    begun = re.findall(r"^\[ RUN      \] ([\w./]+)", out, re.MULTILINE)
    return f"{name}: {begun[-1] if begun else 'before the first case'} (stopped)"


def first_to_fail(kind, order, build_each=False):
    """What noticed, or None."""
    for name in order:
        if (build_each or name in OWN_COPY) and not build(kind, [name]):
            raise SystemExit(f"{name} does not build; see {WORK / 'build.log'}")
        caught = run_test(kind, name)
        if caught:
            return caught
    return None


def check_original(kind, order):
    """The tree as it is must pass, or nothing that follows means anything."""
    if not build(kind, ["quire", *order], changed=False):
        raise SystemExit(f"the tree does not build; see {WORK / 'build.log'}")
    begin = time.monotonic()
    failed = first_to_fail(kind, order)
    if failed:
        raise SystemExit(f"without any change a test fails: {failed}")
    say(f"{kind}: without a change {len(order)} tests pass in {time.monotonic() - begin:.0f} s")
