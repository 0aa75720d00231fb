"""The restricted unpickler: honest files of many writers come through whole, hostile ones are named and refused."""

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
from hojoint.pickles import load_restricted


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


def same(found, wanted):
    if scipy.sparse.issparse(wanted):
        assert found.format == wanted.format
        found, wanted = found.toarray(), wanted.toarray()
    assert type(found) is type(wanted)
    if isinstance(wanted, np.ndarray):
        assert found.dtype == wanted.dtype.newbyteorder("=")  # numpy, too, brings big-endian files to the machine's
        assert found.shape == wanted.shape
        np.testing.assert_array_equal(found, wanted)
    else:
        assert found == wanted


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_protocol_of_an_honest_file_comes_back_as_it_was(protocol):
    wanted = honest()
    found = load_restricted(pickle.dumps(wanted, protocol))
    assert list(found) == list(wanted)
    for key in wanted:
        same(found[key], wanted[key])


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
    found = load_restricted(b"\x80\x02}U\x01v" + array + b"s.")
    np.testing.assert_array_equal(found["v"], [1.5, -2.0])


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
def test_chumpy_arrays_come_back_as_numpy_arrays_without_chumpy(chumpy, protocol):
    values = np.random.default_rng(1).random((4, 3, 20))
    chosen = np.arange(240).reshape(4, 3, 20)[:, :, :10].ravel()
    inner = chumpy("Ch", x=values, _dirty_vars=set(), _itr=None)
    select = chumpy("Select", a=inner, idxs=chosen, preferred_shape=(4, 3, 10), _dirty_vars={"a"})
    found = load_restricted(pickle.dumps({"shapedirs": select, "plain": inner}, protocol))
    np.testing.assert_array_equal(found["shapedirs"], values[:, :, :10])
    np.testing.assert_array_equal(found["plain"], values)
    assert type(found["plain"]) is np.ndarray


def test_shared_parts_stay_shared():
    array = np.arange(3)
    found = load_restricted(pickle.dumps([array, array]))
    assert found[0] is found[1]


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
def test_a_pickle_that_calls_a_function_is_refused_by_that_functions_name(name, protocol, tmp_path):
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
        ("hojoint.pickles", "pickle.loads"),
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
        with pytest.raises(InputError, match="not a whole pickle"):
            load_restricted(data[:length])


def test_noise_never_raises_anything_but_an_input_error():
    rng = np.random.default_rng(3)
    data = bytearray(pickle.dumps(honest(), 2))
    for _ in range(300):
        broken = bytearray(data)
        for place in rng.integers(0, len(data), 3):
            broken[place] = rng.integers(256)
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
    with pytest.raises(InputError, match="not a whole pickle"):
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
