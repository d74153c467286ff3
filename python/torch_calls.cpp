// Calls from Python with torch.Tensors as they are. Each is a builtin of CPython: a PyMethodDef, from which builtin()
// in triage_kernels/_torch_arrays.py makes a function object. ctypes would take microseconds to convert a call's
// arguments; a builtin gets them as they are. Nothing of Python is needed to compile this, and it works with every
// version of it.
//
// A function object's `self` is the capsule with PyTorch's table of functions for the exchange of DLPack tensors. Its
// answer is a triage_status, or NULL where a Python exception was set.
#include <dlpack/dlpack.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <stdexcept>

#include "api/c_call.h"
#include "api/deferred_workspace.h"
#include "api/tensor_check.h"

extern "C" {

// What is used of CPython's stable ABI. Weak: outside of Python, where nothing here is called, they need not exist.
struct PyObject;
struct PyThreadState;
struct PyMethodDef {
  const char* name;
  PyObject* (*function)(PyObject* self, PyObject* const* arguments, std::ptrdiff_t count);
  int flags;
  const char* doc;
};
constexpr int METH_FASTCALL = 0x0080;
[[gnu::weak]] extern PyObject _Py_NoneStruct;
[[gnu::weak]] void Py_DecRef(PyObject*);
[[gnu::weak]] void* PyCapsule_GetPointer(PyObject*, const char* name);
[[gnu::weak]] PyObject* PyErr_Occurred();
[[gnu::weak]] void PyEval_RestoreThread(PyThreadState*);
[[gnu::weak]] PyThreadState* PyEval_SaveThread();
[[gnu::weak]] double PyFloat_AsDouble(PyObject*);
[[gnu::weak]] long long PyLong_AsLongLong(PyObject*);
[[gnu::weak]] void* PyLong_AsVoidPtr(PyObject*);
[[gnu::weak]] PyObject* PyLong_FromLong(long);
[[gnu::weak]] PyObject* PyObject_CallFunction(PyObject*, const char* format, ...);
[[gnu::weak]] int PyObject_IsTrue(PyObject*);
[[gnu::weak]] PyObject* PyTuple_GetItem(PyObject*, std::ptrdiff_t);

}  // extern "C"

namespace {

using namespace triage;

// DLPackExchangeAPI of DLPack 1.3, which the headers of older distributions lack.
struct ExchangeApi {
  std::uint32_t major_version, minor_version;
  const void* older;
  void (*managed_tensor_allocator)();
  void (*managed_tensor_from_object)();
  void (*managed_tensor_to_object)();
  int (*tensor_from_object)(PyObject*, DLTensor*);
  int (*current_work_stream)(DLDeviceType, std::int32_t device_id, void** stream);
};

struct PythonError {};  // thrown where a Python exception was set

template <typename T>
T checked(T value) {
  if (value == static_cast<T>(-1) && PyErr_Occurred() != nullptr) throw PythonError{};
  return value;
}

// A tensor with all dimensions but the last as one.
struct Rows : DLTensor {
  Rows(const char* name, const DLTensor& tensor) : DLTensor(tensor) {
    if (ndim == 0 || ndim == 2) return;
    check_contiguous(name, tensor);
    lengths[1] = shape[ndim - 1];
    for (int i = 0; i + 1 < ndim; i++) lengths[0] *= shape[i];
    ndim = 2;
    shape = lengths;
    strides = nullptr;
  }
  Rows(const Rows&) = delete;  // `shape` points into it
  std::int64_t lengths[2] = {1, 0};
};

// The arguments of a call, read one after another.
class Arguments {
 public:
  Arguments(PyObject* capsule, PyObject* const* arguments, std::ptrdiff_t count)
      : api_(*static_cast<const ExchangeApi*>(PyCapsule_GetPointer(capsule, "dlpack_exchange_api"))),
        next_(arguments),
        end_(arguments + count) {}

  PyObject* object() {
    if (next_ == end_) throw std::logic_error("an argument is missing");
    return *next_++;
  }

  // NULL for None. Its shape and strides are the Python object's, which the caller keeps.
  const DLTensor* optional_tensor() {
    PyObject* const tensor = object();
    if (tensor == &_Py_NoneStruct) return nullptr;
    DLTensor& view = views_.at(view_count_);
    checked(api_.tensor_from_object(tensor, &view));
    if (view_count_++ == 0) first_tensor_ = tensor;
    return &view;
  }

  const DLTensor& tensor() {
    const DLTensor* const view = optional_tensor();
    if (view == nullptr) throw Error(ErrorCode::invalid_argument, "a tensor is None");
    return *view;
  }

  float number() { return static_cast<float>(checked(PyFloat_AsDouble(object()))); }
  std::int64_t integer() { return checked(PyLong_AsLongLong(object())); }
  // What does not fit becomes a value that the library refuses just as well.
  int small_integer() {
    constexpr std::int64_t least = std::numeric_limits<int>::min(), most = std::numeric_limits<int>::max();
    return static_cast<int>(std::clamp(integer(), least, most));
  }
  bool truth() { return checked(PyObject_IsTrue(object())) != 0; }

  // A handle, None for NULL.
  template <typename T>
  T* handle() {
    PyObject* const address = object();
    if (address == &_Py_NoneStruct) return nullptr;
    return static_cast<T*>(PyLong_AsVoidPtr(address));
  }

  // Calls call(workspace, stream) without the GIL, on PyTorch's current stream. `scratch`(bytes, like) is the Python
  // function that makes a workspace: (its owner, its address).
  template <typename Call>
  void run(PyObject* scratch, const Call& call) {
    Stream stream = nullptr;
    const DLDevice device = views_[0].device;
    if (device.device_type == kDLCUDA) {
      checked(api_.current_work_stream(device.device_type, device.device_id, &stream));
    }
    Reference workspace;  // ends with the GIL held, after the launch: the allocator hands memory out in stream order
    WithoutGil without_gil;
    call(
        [&](std::size_t bytes) -> Workspace {
          const WithGil with_gil(without_gil);
          workspace.object = PyObject_CallFunction(scratch, "nO", static_cast<std::ptrdiff_t>(bytes), first_tensor_);
          if (workspace.object == nullptr) throw PythonError{};
          PyObject* const address = PyTuple_GetItem(workspace.object, 1);
          if (address == nullptr) throw PythonError{};
          return {PyLong_AsVoidPtr(address), bytes};
        },
        stream);
  }

 private:
  struct Reference {
    PyObject* object = nullptr;
    ~Reference() { Py_DecRef(object); }  // NULL is ignored
  };
  struct WithoutGil {
    PyThreadState* thread = PyEval_SaveThread();
    ~WithoutGil() { PyEval_RestoreThread(thread); }
  };
  struct WithGil {
    explicit WithGil(WithoutGil& outer) : outer(outer) { PyEval_RestoreThread(outer.thread); }
    ~WithGil() { outer.thread = PyEval_SaveThread(); }
    WithoutGil& outer;
  };

  const ExchangeApi& api_;
  PyObject* const* next_;
  PyObject* const* end_;
  std::array<DLTensor, 10> views_;
  std::size_t view_count_ = 0;
  PyObject* first_tensor_ = nullptr;
};

template <typename Call>
PyObject* answer(const Call& call) {
  const triage_status status = c_call::guarded(call);
  if (status != TRIAGE_OK && PyErr_Occurred() != nullptr) return nullptr;
  return PyLong_FromLong(status);
}

// (pattern, values, x, bias, y, activation, scratch): triage::linear. x and y are matrices, or contiguous.
PyObject* linear_of_tensors(PyObject* capsule, PyObject* const* arguments, std::ptrdiff_t count) {
  return answer([&] {
    Arguments a(capsule, arguments, count);
    const BlockPattern& w = c_call::require(a.handle<const triage_pattern>(), "w").pattern;
    const DLTensor& values = a.tensor();
    const Rows x("x", a.tensor());
    const DLTensor* const bias = a.optional_tensor();
    const Rows y("y", a.tensor());
    LinearOptions options;
    options.activation = static_cast<Activation>(a.small_integer());
    a.run(a.object(), [&](const WorkspaceSource& workspace, Stream stream) {
      linear(w, values, x, bias, y, options, workspace, stream);
    });
  });
}

// (q, k, v, o, lse, pattern, scratch, cu_seqlens_q, cu_seqlens_k, seqused_k, block_table, sinks, max_seqlen_q,
// max_seqlen_k, softmax_scale, causal, window_left, window_right, softcap, num_splits): triage::attention_forward.
PyObject* attention_of_tensors(PyObject* capsule, PyObject* const* arguments, std::ptrdiff_t count) {
  return answer([&] {
    Arguments a(capsule, arguments, count);
    const DLTensor& q = a.tensor();
    const DLTensor& k = a.tensor();
    const DLTensor& v = a.tensor();
    const DLTensor& o = a.tensor();
    const DLTensor* const lse = a.optional_tensor();
    const auto* const pattern = a.handle<const triage_attention_pattern>();
    PyObject* const scratch = a.object();
    AttentionOptions options;
    if (pattern != nullptr) options.pattern = &pattern->pattern;
    options.cu_seqlens_q = a.optional_tensor();
    options.cu_seqlens_k = a.optional_tensor();
    options.seqused_k = a.optional_tensor();
    options.block_table = a.optional_tensor();
    options.sinks = a.optional_tensor();
    options.max_seqlen_q = a.integer();
    options.max_seqlen_k = a.integer();
    options.softmax_scale = a.number();
    options.causal = a.truth();
    options.window_left = a.integer();
    options.window_right = a.integer();
    options.softcap = a.number();
    options.num_splits = a.small_integer();
    a.run(scratch, [&](const WorkspaceSource& workspace, Stream stream) {
      attention_forward(q, k, v, o, lse, options, workspace, stream);
    });
  });
}

}  // namespace

extern "C" {
extern PyMethodDef triage_python_linear, triage_python_attention;
PyMethodDef triage_python_linear = {"linear", linear_of_tensors, METH_FASTCALL, nullptr};
PyMethodDef triage_python_attention = {"attention", attention_of_tensors, METH_FASTCALL, nullptr};
}
