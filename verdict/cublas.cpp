#include "verdict/cublas.h"

#include <fmt/format.h>

#include <memory>
#include <stdexcept>

#include "device/memory.h"
#include "verdict/dynamic_library.h"

namespace triage::verdict {
namespace {

// Values of cublas_api.h and library_types.h; part of the libraries' ABI and the same in versions 11 to 13.
constexpr int kNoTranspose = 0, kTranspose = 1;
constexpr int kReal16F = 2, kReal16BF = 14;
constexpr int kCompute32F = 68;
constexpr int kDefaultAlgorithm = -1;

constexpr std::size_t kWorkspaceBytes = std::size_t{64} << 20;  // what cuBLAS itself would take on a 9.0 device, twice

}  // namespace

struct Cublas::Api {
  int (*create)(void**);
  int (*get_version)(void*, int*);
  int (*set_stream)(void*, void*);
  int (*set_workspace)(void*, void*, std::size_t);
  int (*gemm_ex)(void*, int, int, int, int, int, const void*, const void*, int, int, const void*, int, int, const void*,
                 void*, int, int, int, int);

  bool load(const DynamicLibrary& library) {
    create = library.function<int(void**)>("cublasCreate_v2");
    get_version = library.function<int(void*, int*)>("cublasGetVersion_v2");
    set_stream = library.function<int(void*, void*)>("cublasSetStream_v2");
    set_workspace = library.function<int(void*, void*, std::size_t)>("cublasSetWorkspace_v2");
    gemm_ex = library.function<int(void*, int, int, int, int, int, const void*, const void*, int, int, const void*, int,
                                   int, const void*, void*, int, int, int, int)>("cublasGemmEx");
    return create && get_version && set_stream && set_workspace && gemm_ex;
  }
};

int cuda_data_type(const std::string& dtype) {
  if (dtype == "float16") return kReal16F;
  if (dtype == "bfloat16") return kReal16BF;
  throw std::runtime_error(fmt::format("the peer takes float16 and bfloat16, not {}", dtype));
}

std::vector<std::string> cuda_library_candidates(const std::string& name, const std::vector<int>& major_versions) {
  std::vector<std::string> paths;
  for (int major : major_versions) {
    const std::string file = fmt::format("lib{}.so.{}", name, major);
    paths.push_back(file);
    paths.push_back("/usr/local/cuda/lib64/" + file);
    for (const std::string& path : in_python_packages("nvidia/*/lib/" + file)) paths.push_back(path);
  }
  return paths;
}

Cublas* Cublas::find() {
  static const std::unique_ptr<Cublas> found = []() -> std::unique_ptr<Cublas> {
    static Api api;
    for (const std::string& candidate : cuda_library_candidates("cublas", {13, 12, 11})) {
      const DynamicLibrary library = DynamicLibrary::open_first({candidate});
      std::unique_ptr<Cublas> cublas(new Cublas);
      if (!library || !api.load(library) || api.create(&cublas->handle_) != 0) continue;
      cublas->api_ = &api;
      int version = 0;
      api.get_version(cublas->handle_, &version);
      cublas->version_ = version >= 100000
                             ? fmt::format("{}.{}.{}", version / 10000, version / 100 % 100, version % 100)
                             : fmt::format("{}.{}.{}", version / 1000, version / 100 % 10, version % 100);
      // A workspace of its own: what cuBLAS would allocate during a graph's capture becomes part of the graph.
      static const Buffer workspace({kDLCUDA, 0}, kWorkspaceBytes, nullptr);
      cublas->workspace_ = workspace.data();
      return cublas;
    }
    return nullptr;
  }();
  return found.get();
}

std::string Cublas::absence() {
  return "libcublas was not found or refused the device; it comes with the CUDA toolkit, or with `pip install "
         "nvidia-cublas`";
}

void Cublas::gemm(const GemmShape& s, const std::string& dtype, const void* a, const void* b, void* c, Stream stream) {
  const int type = cuda_data_type(dtype);
  const float one = 1, zero = 0;
  // cuBLAS is column-major: what it sees are the transposes, hence C^T = op(B)^T * op(A)^T.
  int status = api_->set_stream(handle_, stream);
  if (status == 0) status = api_->set_workspace(handle_, workspace_, kWorkspaceBytes);
  if (status == 0) {
    status = api_->gemm_ex(handle_, s.b_transposed ? kTranspose : kNoTranspose,
                           s.a_transposed ? kTranspose : kNoTranspose, static_cast<int>(s.n), static_cast<int>(s.m),
                           static_cast<int>(s.k), &one, b, type, static_cast<int>(s.ldb), a, type,
                           static_cast<int>(s.lda), &zero, c, type, static_cast<int>(s.ldc), kCompute32F,
                           kDefaultAlgorithm);
  }
  if (status != 0) throw std::runtime_error(fmt::format("cublasGemmEx returned status {}", status));
}

}  // namespace triage::verdict
