#include "verdict/cusparse.h"

#include <fmt/format.h>

#include <stdexcept>

#include "verdict/cublas.h"
#include "verdict/dynamic_library.h"

namespace triage::verdict {
namespace {

// Values of cusparse.h; part of the library's ABI, the same in versions 11 and 12.
constexpr int kNoTranspose = 0, kTranspose = 1;
constexpr int kOrderColumn = 1, kOrderRow = 2;
constexpr int kIndex32I = 2;
constexpr int kBaseZero = 0;
constexpr int kReal32F = 0;
constexpr int kSpmmDefault = 0, kSpmmBlockedEll = 13;
constexpr int kSddmmDefault = 0;

}  // namespace

struct Cusparse::Api {
  int (*create)(void**);
  int (*get_version)(void*, int*);
  int (*set_stream)(void*, void*);
  const char* (*error_string)(int);
  int (*create_bsr)(void**, std::int64_t, std::int64_t, std::int64_t, std::int64_t, std::int64_t, void*, void*, void*,
                    int, int, int, int, int);
  int (*create_ell)(void**, std::int64_t, std::int64_t, std::int64_t, std::int64_t, void*, void*, int, int, int);
  int (*create_dense)(void**, std::int64_t, std::int64_t, std::int64_t, void*, int, int);
  int (*destroy_sparse)(const void*);
  int (*destroy_dense)(const void*);
  int (*spmm_size)(void*, int, int, const void*, const void*, const void*, const void*, void*, int, int, std::size_t*);
  int (*spmm)(void*, int, int, const void*, const void*, const void*, const void*, void*, int, int, void*);
  int (*sddmm_size)(void*, int, int, const void*, const void*, const void*, const void*, void*, int, int, std::size_t*);
  int (*sddmm)(void*, int, int, const void*, const void*, const void*, const void*, void*, int, int, void*);

  bool load(const DynamicLibrary& library) {
    const auto get = [&](auto& function, const char* name) {
      using Function = std::remove_pointer_t<std::remove_reference_t<decltype(function)>>;
      function = library.function<Function>(name);
      return function != nullptr;
    };
    // BSR came with 12.1; an older library still serves Blocked-ELL.
    get(create_bsr, "cusparseCreateBsr");
    return get(create, "cusparseCreate") && get(get_version, "cusparseGetVersion") &&
           get(set_stream, "cusparseSetStream") && get(error_string, "cusparseGetErrorString") &&
           get(create_ell, "cusparseCreateBlockedEll") && get(create_dense, "cusparseCreateDnMat") &&
           get(destroy_sparse, "cusparseDestroySpMat") && get(destroy_dense, "cusparseDestroyDnMat") &&
           get(spmm_size, "cusparseSpMM_bufferSize") && get(spmm, "cusparseSpMM") &&
           get(sddmm_size, "cusparseSDDMM_bufferSize") && get(sddmm, "cusparseSDDMM");
  }
};

Cusparse* Cusparse::find() {
  static const std::unique_ptr<Cusparse> found = []() -> std::unique_ptr<Cusparse> {
    static Api api;
    for (const std::string& candidate : cuda_library_candidates("cusparse", {12, 11})) {
      const DynamicLibrary library = DynamicLibrary::open_first({candidate});
      std::unique_ptr<Cusparse> cusparse(new Cusparse);
      if (!library || !api.load(library) || api.create(&cusparse->handle_) != 0) continue;
      cusparse->api_ = &api;
      int version = 0;
      api.get_version(cusparse->handle_, &version);
      cusparse->version_ = fmt::format("{}.{}.{}", version / 1000, version / 100 % 10, version % 100);
      return cusparse;
    }
    return nullptr;
  }();
  return found.get();
}

std::string Cusparse::absence() {
  return "libcusparse was not found or refused the device; it comes with the CUDA toolkit, or with `pip install "
         "nvidia-cusparse`";
}

void Cusparse::check(int status, const char* what) const {
  if (status != 0) throw std::runtime_error(fmt::format("{}: {}", what, api_->error_string(status)));
}

void* Cusparse::describe(const CusparseMatrix& m, int type) const {
  void* descriptor = nullptr;
  if (m.format == CusparseFormat::blocked_ell) {
    check(api_->create_ell(&descriptor, m.block_rows * m.block, m.block_cols * m.block, m.block,
                           m.blocks_per_row * m.block, m.col, m.values, kIndex32I, kBaseZero, type),
          "cusparseCreateBlockedEll");
  } else {
    if (!api_->create_bsr) throw std::runtime_error("this cuSPARSE has no generic BSR format (12.1 and later have)");
    check(api_->create_bsr(&descriptor, m.block_rows, m.block_cols, m.nnz_blocks, m.block, m.block, m.crow, m.col,
                           m.values, kIndex32I, kIndex32I, kBaseZero, type, kOrderRow),
          "cusparseCreateBsr");
  }
  return descriptor;
}

void* Cusparse::describe(const CusparseDense& m, int type) const {
  void* descriptor = nullptr;
  check(api_->create_dense(&descriptor, m.rows, m.cols, m.stride, m.data, type,
                           m.row_major ? kOrderRow : kOrderColumn),
        "cusparseCreateDnMat");
  return descriptor;
}

std::unique_ptr<Cusparse::Product> Cusparse::spmm(const CusparseMatrix& a, const CusparseDense& b,
                                                  const CusparseDense& c, const std::string& dtype, Stream stream) {
  std::unique_ptr<Product> product(new Product);
  product->library_ = this;
  product->type_ = cuda_data_type(dtype);
  product->algorithm_ = a.format == CusparseFormat::blocked_ell ? kSpmmBlockedEll : kSpmmDefault;
  product->sparse_ = describe(a, product->type_);
  product->left_ = describe(b, product->type_);
  product->right_ = describe(c, product->type_);
  const float one = 1, zero = 0;
  std::size_t bytes = 0;
  check(api_->set_stream(handle_, stream), "cusparseSetStream");
  check(api_->spmm_size(handle_, kNoTranspose, kNoTranspose, &one, product->sparse_, product->left_, &zero,
                        product->right_, kReal32F, product->algorithm_, &bytes),
        "cusparseSpMM_bufferSize");
  if (bytes > 0) product->workspace_ = Buffer({kDLCUDA, 0}, bytes, stream);
  return product;
}

std::unique_ptr<Cusparse::Product> Cusparse::sddmm(const CusparseMatrix& c, const CusparseDense& x,
                                                   const CusparseDense& y, const std::string& dtype, Stream stream) {
  std::unique_ptr<Product> product(new Product);
  product->library_ = this;
  product->sampled_ = true;
  product->type_ = cuda_data_type(dtype);
  product->algorithm_ = kSddmmDefault;
  product->right_operation_ = kTranspose;
  product->sparse_ = describe(c, product->type_);
  product->left_ = describe(x, product->type_);
  product->right_ = describe(y, product->type_);
  const float one = 1, zero = 0;
  std::size_t bytes = 0;
  check(api_->set_stream(handle_, stream), "cusparseSetStream");
  check(api_->sddmm_size(handle_, kNoTranspose, kTranspose, &one, product->left_, product->right_, &zero,
                         product->sparse_, kReal32F, kSddmmDefault, &bytes),
        "cusparseSDDMM_bufferSize");
  if (bytes > 0) product->workspace_ = Buffer({kDLCUDA, 0}, bytes, stream);
  return product;
}

void Cusparse::Product::run(Stream stream) {
  const float one = 1, zero = 0;
  const Api& api = *library_->api_;
  library_->check(api.set_stream(library_->handle_, stream), "cusparseSetStream");
  if (sampled_) {
    library_->check(api.sddmm(library_->handle_, kNoTranspose, right_operation_, &one, left_, right_, &zero, sparse_,
                              kReal32F, algorithm_, workspace_.data()),
                    "cusparseSDDMM");
  } else {
    library_->check(api.spmm(library_->handle_, kNoTranspose, kNoTranspose, &one, sparse_, left_, &zero, right_,
                             kReal32F, algorithm_, workspace_.data()),
                    "cusparseSpMM");
  }
}

Cusparse::Product::~Product() {
  if (sparse_) library_->api_->destroy_sparse(sparse_);
  if (left_) library_->api_->destroy_dense(left_);
  if (right_) library_->api_->destroy_dense(right_);
}

}  // namespace triage::verdict
