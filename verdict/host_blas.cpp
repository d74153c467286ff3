#include "verdict/host_blas.h"

#include <cstdlib>
#include <initializer_list>
#include <limits>
#include <optional>
#include <stdexcept>

#include "verdict/dynamic_library.h"

namespace triage::verdict {
namespace {

// cblas.h's values.
constexpr int kRowMajor = 101, kNoTranspose = 111, kTranspose = 112;

/// Prefix and suffix of a library's names: SciPy's wheels rename OpenBLAS's, with a suffix for 64-bit indices.
struct Naming {
  const char* prefix;
  const char* suffix;
  bool wide_index;
};
constexpr Naming kNamings[] = {{"", "", false}, {"scipy_", "", false}, {"scipy_", "64_", true}, {"", "64_", true}};

std::vector<std::string> candidates() {
  if (const char* named = std::getenv("TRIAGE_BLAS"); named && *named) return {named};
  std::vector<std::string> paths{"libopenblas.so.0", "libopenblas.so", "libmkl_rt.so.2", "libmkl_rt.so",
                                 "libblis.so.4",     "libblis.so"};
  for (const char* pattern : {"scipy_openblas32/lib/libscipy_openblas*.so", "scipy_openblas64/lib/libscipy_openblas*.so",
                              "numpy.libs/lib*openblas*.so*", "scipy.libs/lib*openblas*.so*"}) {
    for (const std::string& path : in_python_packages(pattern)) paths.push_back(path);
  }
  return paths;
}

std::string kind_of(const std::string& path) {
  const std::string file = path.substr(path.rfind('/') + 1);
  for (const char* kind : {"openblas", "mkl", "blis"}) {
    if (file.find(kind) != std::string::npos) return kind;
  }
  return "blas";
}

/// "OpenBLAS 0.3.21 DYNAMIC_ARCH ..." -> "0.3.21".
std::string first_number_word(const std::string& text) {
  const std::size_t begin = text.find_first_of("0123456789");
  if (begin == std::string::npos) return "";
  return text.substr(begin, text.find(' ', begin) - begin);
}

}  // namespace

const HostBlas* HostBlas::find() {
  static const std::optional<HostBlas> found = []() -> std::optional<HostBlas> {
    for (const std::string& candidate : candidates()) {
      const DynamicLibrary library = DynamicLibrary::open_first({candidate});
      if (!library) continue;
      for (const Naming& naming : kNamings) {
        const auto named = [&](const std::string& name) { return naming.prefix + name + naming.suffix; };
        HostBlas blas;
        blas.sgemm_ = reinterpret_cast<void*>(library.function<void()>(named("cblas_sgemm").c_str()));
        blas.dgemm_ = reinterpret_cast<void*>(library.function<void()>(named("cblas_dgemm").c_str()));
        if (!blas.sgemm_ || !blas.dgemm_) continue;
        blas.wide_index_ = naming.wide_index;
        blas.path_ = library.path();
        blas.name_ = kind_of(library.path());
        if (auto* config = library.function<char*()>(named("openblas_get_config").c_str())) {
          blas.version_ = first_number_word(config());
        } else if (auto* info = library.function<const char*()>("bli_info_get_version_str")) {
          blas.version_ = info();
        }
        blas.set_threads_ = library.function<void(int)>(named("openblas_set_num_threads").c_str());
        if (!blas.set_threads_) blas.set_threads_ = library.function<void(int)>("MKL_Set_Num_Threads");
        return blas;
      }
    }
    return std::nullopt;
  }();
  return found ? &*found : nullptr;
}

std::string HostBlas::absence() {
  if (const char* named = std::getenv("TRIAGE_BLAS"); named && *named) {
    return std::string("TRIAGE_BLAS=") + named + " is no library with cblas_sgemm";
  }
  return "no OpenBLAS, MKL or BLIS was found; install libopenblas0 (apt) or scipy-openblas32 (PyPI), or name a library "
         "with TRIAGE_BLAS";
}

void HostBlas::set_threads(int threads) const {
  if (set_threads_) set_threads_(threads);
}

template <class T>
void HostBlas::call(void* function, const GemmShape& s, const T* a, const T* b, T* c) const {
  const int op_a = s.a_transposed ? kTranspose : kNoTranspose, op_b = s.b_transposed ? kTranspose : kNoTranspose;
  const auto invoke = [&](auto index) {
    using Index = decltype(index);
    for (std::int64_t size : {s.m, s.n, s.k, s.lda, s.ldb, s.ldc}) {
      if (size > std::numeric_limits<Index>::max()) {
        throw std::runtime_error("the matrix is too large for " + name_ + "'s 32-bit sizes");
      }
    }
    using Gemm = void(int, int, int, Index, Index, Index, T, const T*, Index, const T*, Index, T, T*, Index);
    reinterpret_cast<Gemm*>(function)(kRowMajor, op_a, op_b, static_cast<Index>(s.m), static_cast<Index>(s.n),
                                      static_cast<Index>(s.k), T(1), a, static_cast<Index>(s.lda), b,
                                      static_cast<Index>(s.ldb), T(0), c, static_cast<Index>(s.ldc));
  };
  if (wide_index_) {
    invoke(std::int64_t{});
  } else {
    invoke(int{});
  }
}

void HostBlas::gemm(const GemmShape& shape, const float* a, const float* b, float* c) const {
  call(sgemm_, shape, a, b, c);
}

void HostBlas::gemm(const GemmShape& shape, const double* a, const double* b, double* c) const {
  call(dgemm_, shape, a, b, c);
}

}  // namespace triage::verdict
