"""The restricted unpickler: honest files of many writers come through complete, hostile ones are named and refused."""

import contextlib
import io
import os
import pickle
import pickletools
import struct
import subprocess
import sys
import types
from collections import OrderedDict

import numpy as np
import pytest
import scipy.sparse

from hojoint.errors import InputError
from hojoint.hand.pickles import load_restricted


class Call:
    """Pickles as a call of ``function`` with ``arguments``."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.fixture
def chumpy(monkeypatch):
    """Throw-away classes that pickle under chumpy's names."""
    made = {}
    for module, name in (("chumpy.ch", "Ch"), ("chumpy.reordering", "Select")):
        cls = type(name, (), {"__module__": module})
        monkeypatch.setitem(sys.modules, module, types.SimpleNamespace(**{name: cls}))
        made[name] = cls
    monkeypatch.setitem(sys.modules, "chumpy", types.SimpleNamespace())

    def make(name, **state):
        instance = made[name].__new__(made[name])
        instance.__dict__.update(state)
        return instance

    return make


def honest():
    rng = np.random.default_rng(0)
    dense = np.where(rng.random((4, 6)) < 0.4, rng.random((4, 6)), 0.0)
    return {
        "float32": rng.random((3, 4)).astype(np.float32),
        "by columns": np.asfortranarray(rng.random((3, 4))),
        "big endian": rng.random(5).astype(">f8"),
        "unsigned": np.arange(6, dtype=np.uint32).reshape(2, 3),
        "truth": np.array([True, False]),
        "text": np.array(["ab", "cde"]),
        "empty": np.zeros((0, 3)),
        "nothing": np.array([None, None]),
        "scalar": np.float64(1.5),
        "integer": np.int64(-3),
        "name": "006_mustard_bottle",
        "raw": b"\x00\xff",
        "unannotated": None,
        "cameras": ["0", "1"],
        "csc": scipy.sparse.csc_matrix(dense),
        "csr": scipy.sparse.csr_matrix(dense),
        "coo": scipy.sparse.coo_matrix(dense),
        "ordered": OrderedDict(b=1, a=2),
        "set": {1, 2},
        "pair": (1, (2.5, "x")),
    }


def same(loaded, expected):
    if scipy.sparse.issparse(expected):
        assert loaded.format == expected.format
        loaded, expected = loaded.toarray(), expected.toarray()
    assert type(loaded) is type(expected)
    if isinstance(expected, np.ndarray):
        assert loaded.dtype == expected.dtype.newbyteorder("=")  # numpy, too, brings big-endian files to the machine's
        assert loaded.shape == expected.shape
        np.testing.assert_array_equal(loaded, expected)
    else:
        assert loaded == expected


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_protocol_of_an_honest_file_comes_back_as_it_was(protocol):
    expected = honest()
    loaded = load_restricted(pickle.dumps(expected, protocol))
    assert list(loaded) == list(expected)
    for key in expected:
        same(loaded[key], expected[key])


def test_what_numpy_itself_would_read_is_read_the_same():
    data = pickle.dumps(honest(), 2)
    for key, value in pickle.loads(data, encoding="latin1").items():
        same(load_restricted(data)[key], value)


@pytest.mark.parametrize(("new", "old"), [(b"numpy._core", b"numpy.core"), (b"numpy._core", b"numpy._core")])
def test_files_of_numpy_1_and_2_are_both_read(new, old):
    data = pickle.dumps(np.arange(4.0), 2).replace(new, old)
    np.testing.assert_array_equal(load_restricted(data), np.arange(4.0))


@pytest.mark.parametrize("module", [b"scipy.sparse.csc", b"scipy.sparse._csc", b"scipy.sparse"])
def test_a_sparse_matrix_is_found_under_the_names_of_every_scipy(module):
    matrix = scipy.sparse.csc_matrix(np.eye(3))
    data = pickle.dumps(matrix, 2).replace(b"cscipy.sparse._csc\n", b"c" + module + b"\n")
    assert module + b"\n" in data
    np.testing.assert_array_equal(load_restricted(data).toarray(), np.eye(3))


def test_an_array_as_python_2_wrote_it_is_read():
    # By hand, protocol 2: text strings hold the bytes, integers are long, the module is numpy.core.
    raw = struct.pack("<2d", 1.5, -2.0)
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02f8K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89U\x10" + raw + b"tb"
    )
    loaded = load_restricted(b"\x80\x02}U\x01v" + array + b"s.")
    np.testing.assert_array_equal(loaded["v"], [1.5, -2.0])


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
def test_chumpy_arrays_come_back_as_numpy_arrays_without_chumpy(chumpy, protocol):
    values = np.random.default_rng(1).random((4, 3, 20))
    chosen = np.arange(240).reshape(4, 3, 20)[:, :, :10].ravel()
    inner = chumpy("Ch", x=values, _dirty_vars=set(), _itr=None)
    select = chumpy("Select", a=inner, idxs=chosen, preferred_shape=(4, 3, 10), _dirty_vars={"a"})
    loaded = load_restricted(pickle.dumps({"shapedirs": select, "plain": inner}, protocol))
    np.testing.assert_array_equal(loaded["shapedirs"], values[:, :, :10])
    np.testing.assert_array_equal(loaded["plain"], values)
    assert type(loaded["plain"]) is np.ndarray


def test_shared_parts_stay_shared():
    array = np.arange(3)
    loaded = load_restricted(pickle.dumps([array, array]))
    assert loaded[0] is loaded[1]


# --------------------------------------------------------------------------------------------------- hostile files

REFUSED = {
    "os.system": Call(os.system, "exit 1"),
    "subprocess": Call(subprocess.Popen, ["false"]),
    "builtins.eval": Call(eval, "1"),
    "builtins.exec": Call(exec, "raise SystemExit"),
    "builtins.getattr": Call(getattr, Call(__import__, "os"), "system"),
    "__import__": Call(__import__, "os"),
    "numpy.load": Call(np.load, "x.npy", None, True),
    "numpy.fromfile": Call(np.fromfile, "x"),
    "operator.attrgetter": Call(__import__("operator").attrgetter, "system"),
    "functools.partial": Call(__import__("functools").partial, os.system, "exit 1"),
    "pickle.loads": Call(pickle.loads, b"N."),
    "bytearray": Call(bytearray, 3),
    "io.open": Call(io.open, "/tmp/never", "w"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_that_calls_a_function_is_refused_by_its_name(name, protocol, tmp_path):
    file = tmp_path / "model.pkl"
    file.write_bytes(pickle.dumps({"v_template": np.zeros(3), "bad": REFUSED[name]}, protocol))
    with pytest.raises(InputError, match=r"model\.pkl asks for '.*'.*refused"):
        load_restricted(file)


def stack_global(module, name):
    def text(value):
        return b"\x8c" + bytes([len(value)]) + value.encode()

    return b"\x80\x04" + text(module) + text(name) + b"\x93" + text("x") + b"\x85R."


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("numpy", "ndarray.tofile"),
        ("numpy", "dtype.__class__"),
        ("builtins", "set.__class__.__subclasses__"),
        ("builtins", "object.__reduce_ex__"),
        ("hojoint.hand.pickles", "pickle.loads"),
        ("numpy.testing._private.utils", "runstring"),
        ("numpy", "f2py"),
        ("scipy.sparse", "load_npz"),
        ("chumpy.ch", "MatVecMult"),
        ("chumpy", "ch"),
        ("collections", "OrderedDict.fromkeys"),
        ("copyreg", "__newobj__"),
        ("_codecs", "decode"),
    ],
)
def test_dotted_and_neighbouring_names_are_refused(module, name):
    with pytest.raises(InputError, match=f"asks for '{module}.{name}'"):
        load_restricted(stack_global(module, name))


def test_a_refused_pickle_has_not_run_its_code(tmp_path):
    mark = tmp_path / "ran"
    with pytest.raises(InputError):
        load_restricted(pickle.dumps(Call(os.mkdir, str(mark))))
    assert not mark.exists()


def test_a_damaged_file_is_refused_at_every_length():
    data = pickle.dumps(honest(), 2)
    for length in [0, 1, 2, *range(3, len(data), 61), len(data) - 1]:
        with pytest.raises(InputError, match="not a complete pickle"):
            load_restricted(data[:length])


def test_noise_never_raises_anything_but_an_input_error():
    rng = np.random.default_rng(3)
    data = bytearray(pickle.dumps(honest(), 2))
    for _ in range(300):
        broken = bytearray(data)
        for position in rng.integers(0, len(data), 3):
            broken[position] = rng.integers(256)
        with contextlib.suppress(InputError):
            load_restricted(bytes(broken))
    with pytest.raises(InputError):
        load_restricted(b"<html>404</html>")


def test_a_missing_file_says_so(tmp_path):
    with pytest.raises(InputError, match=r"cannot read .*none\.pkl: No such file"):
        load_restricted(tmp_path / "none.pkl")


def test_a_sparse_matrix_whose_indices_leave_it_is_refused():
    matrix = scipy.sparse.csc_matrix(np.eye(3))
    matrix.indices[1] = 1_000_000
    with pytest.raises(InputError, match="not a complete pickle"):
        load_restricted(pickle.dumps(matrix, 2))


def test_a_dtype_cannot_lie_about_what_its_bytes_are():
    # The dtype 'O' with the flags of a plain number would make numpy take eight bytes for a pointer.
    data = pickle.dumps(np.array([None]), 2)
    opcodes = [(o.name, a) for o, a, _ in pickletools.genops(data)]
    assert ("BININT1", 63) in opcodes  # the flags of an object array
    harmless = data.replace(b"K\x3ft", b"K\x00t")
    assert harmless != data
    assert load_restricted(harmless)[0] is None


def test_a_pickle_that_holds_itself_is_refused():
    loop = []
    loop.append(loop)
    with pytest.raises(InputError, match="nested"):
        load_restricted(pickle.dumps(loop))


# ------------------------------------------------------------------ hostile files that call only what is allowed


def named(module, name):
    return f"c{module}\n{name}\n".encode()


def dtype_of(code):
    return named("numpy", "dtype") + b"U" + bytes([len(code)]) + code + b"\x85R"


def rebuilt(shape, code, raw):
    """An array as numpy writes it, around opcodes that push its shape and its data."""
    empty = named("numpy.core.multiarray", "_reconstruct") + named("numpy", "ndarray") + b"K\x00\x85C\x01b\x87R"
    return empty + b"(K\x01" + shape + dtype_of(code) + b"\x89" + raw + b"tb"


BYTES, NEVER = b"C\x08AAAAAAAA", b"J\xff\xff\xff\x7f"  # an address that is none; 2**31 - 1
NDARRAY, SCALAR = named("numpy", "ndarray"), named("numpy.core.multiarray", "scalar")
BUFFER, ENCODE = named("numpy.core.numeric", "_frombuffer"), named("_codecs", "encode")
ONE_OBJECT = rebuilt(b"K\x01\x85", b"O", b"]Na")
HOSTILE = {
    "objects beyond the end of their list": rebuilt(b"M\xa0\x0f\x85", b"O", b"]"),
    "objects from a tuple": rebuilt(b"K\x01\x85", b"O", b"N\x85"),
    "objects from bytes": rebuilt(b"K\x01\x85", b"O", BYTES),
    "a negative shape": rebuilt(b"J\xff\xff\xff\xffJ\xff\xff\xff\xff\x86", b"O", b"]Na"),
    "a shape whose product overflows": rebuilt(b"\x8a\x09" + b"\x00" * 8 + b"\x01K\x08\x86", b"f8", b"C\x00"),
    "a shape that is a list": rebuilt(b"]K\x01a", b"f8", BYTES),
    "many strings of no size": rebuilt(NEVER + b"\x85", b"U0", b"C\x00"),
    "an array's type that is no dtype": ONE_OBJECT[:-3] + b"tb" + b"(K\x01K\x01\x85" + ONE_OBJECT + b"\x89]Natb",
    "ndarray called with bytes as objects": NDARRAY + b"(K\x01\x85U\x01O" + BYTES + b"tR",
    "ndarray called with a size": NDARRAY + NEVER + b"\x85\x85R",
    "ndarray made by NEWOBJ": NDARRAY + b"(K\x01\x85U\x01O" + BYTES + b"t\x81",
    "ndarray by copy_reg": named("copy_reg", "_reconstructor") + NDARRAY + named("__builtin__", "object") + b"N\x87R",
    "a scalar object": SCALAR + dtype_of(b"O") + BYTES + b"\x86R",
    "a scalar over an array of objects": SCALAR + dtype_of(b"f8") + ONE_OBJECT + b"\x86R",
    "a buffer of objects": BUFFER + b"(" + BYTES + dtype_of(b"O") + b"K\x01\x85U\x01CtR",
    "a buffer of eight numbers bytes": BUFFER + b"(K\x08" + dtype_of(b"f8") + b"K\x01\x85U\x01CtR",
    "a sparse matrix over objects": named("scipy.sparse", "csc_matrix") + b")\x81}(U\x04data" + ONE_OBJECT
    + b"U\x07indices" + ONE_OBJECT + b"U\x06indptr" + ONE_OBJECT + b"U\x05shapeK\x01K\x01\x86ub",
    "a function's changed default": ENCODE + b"N}U\x0c__defaults__U\x04utf8\x85s\x86b",
    "a function's changed attribute": ENCODE + b"}U\x08harmlessNsb",
    "ndarray's changed attribute": NDARRAY + b"N}U\x07__new__" + named("collections", "OrderedDict") + b"s\x86b",
    "a class's changed attribute": named("numpy", "dtype") + b"N}U\x05dtypeNs\x86b",
}  # fmt: skip

READ_ALL = """
import pickle, sys
from hojoint.errors import InputError
from hojoint.hand.pickles import load_restricted
for name, data in pickle.load(sys.stdin.buffer).items():
    print(name, end=": ", flush=True)
    try:
        print("loaded", type(load_restricted(data)))
    except InputError as error:
        print("refused")
"""


def test_allowed_names_cannot_be_turned_against_the_interpreter():
    # In a process of its own, which may die of what it reads: the last name printed is then the culprit.
    files = {name: b"\x80\x03" + opcodes + b"." for name, opcodes in HOSTILE.items()}
    child = subprocess.run(
        [sys.executable, "-c", READ_ALL], input=pickle.dumps(files), capture_output=True, check=False, timeout=120
    )
    assert child.stdout.decode().splitlines() == [f"{name}: refused" for name in files], child.stderr.decode()
    assert child.returncode == 0


def test_an_ordered_dicts_replaced_items_is_not_called():
    pair = named("collections", "OrderedDict") + b")R(U\x01aK\x01u}U\x05items" + named("__builtin__", "set") + b"sb"
    loaded = load_restricted(b"\x80\x03" + pair + b".")
    assert loaded == OrderedDict(a=1)
    assert not vars(loaded)
