// Copies of matrix tiles from global into swizzled shared memory by cp.async: any edge, any alignment.
#pragma once

#include <cstdint>

#include "ptx/cp_async.h"
#include "ptx/mbarrier.h"

namespace triage::sm80 {

/// The widest access that a matrix's address and stride allow.
enum class Access : int {
  chunks = 0,    ///< 16 bytes: address a multiple of 16, stride of 8 elements
  pairs = 1,     ///< 4 bytes: address a multiple of 4, stride of 2 elements
  elements = 2,  ///< 2 bytes; not asynchronous
};

/// A row-major matrix of 16-bit elements in global memory. Elements beyond rows or cols read as zero.
struct MatrixSource {
  const void* data = nullptr;
  std::int64_t stride = 0;  ///< elements
  std::int64_t rows = 0, cols = 0;
  Access access = Access::chunks;
};

/// How a tile of kRows x kRowBytes lies in shared memory: the 16-byte chunks of each 128 bytes are permuted so that the
/// same chunk of eight neighbouring rows, which ldmatrix reads at once, lies in eight different groups of banks.
/// (Padding the rows instead is slower: a 32-byte sector of global memory that crosses 128 bytes of shared memory is
/// read twice.)
template <int kRows, int kRowBytes>
struct TileLayout {
  static constexpr int kBytes = kRows * kRowBytes;
  static constexpr int kChunks = (kRowBytes < 128 ? kRowBytes : 128) / 16;  ///< that are permuted among themselves
  static constexpr int kPairs = kChunks / 2;
  static_assert(kBytes % 128 == 0 && kRowBytes % 32 == 0, "tiles follow one another in units of 128 bytes");

  static __host__ __device__ constexpr std::uint32_t offset(int row, int chunk) {
    return row * kRowBytes + (chunk ^ (row / (8 / kChunks) & (kChunks - 1))) * 16;
  }
  /// From an address within the tile to that `pairs` pairs of chunks and `rows` rows (a multiple of 8) further. Within
  /// the permuted 128 bytes, the address must be that of the first pair or of a multiple of what is added.
  static __device__ __forceinline__ std::uint32_t advance(std::uint32_t address, int pairs, int rows) {
    return (address ^ pairs % kPairs * 32) + pairs / kPairs * (kChunks * 16) + rows * kRowBytes;
  }
};

/// Copies of a tile of kRows x kRowBytes into shared memory, in pieces of up to 8 passes of one warp; a pass copies 512
/// bytes. Pieces are what warps share out among themselves. The copies of a piece are independent instructions: a warp
/// that reused an address register would wait until the copy before has read it, about 100 clk.
template <int kRows, int kRowBytes>
struct TileCopy {
  using Layout = TileLayout<kRows, kRowBytes>;
  static constexpr int kChunks = kRowBytes / 16;  ///< per row
  static constexpr int kRowsPerPass = 32 / kChunks;
  static constexpr int kPasses = kRows / kRowsPerPass;
  static constexpr int kPiecePasses = kPasses < 8 ? kPasses : 8;
  static constexpr int kPieces = kPasses / kPiecePasses;
  static constexpr int kPieceRows = kPiecePasses * kRowsPerPass;
  static_assert(kChunks <= 32 && 32 % kChunks == 0, "a pass copies whole rows");
  static_assert(kPasses >= 1 && kRows % kRowsPerPass == 0, "passes make up the tile");
  static_assert(kPasses % kPiecePasses == 0 && (kPieces == 1 || kPieceRows % 8 == 0),
                "pieces begin where the permutation does");

  /// The tile lies inside of its matrix, whose address and stride allow 16-byte accesses. @param corner its first
  /// element.
  static __device__ __forceinline__ void copy(std::uint32_t target, const void* corner, std::int64_t stride, int piece,
                                              int lane) {
    const int row = lane / kChunks, chunk = lane % kChunks;
    target += piece * (kPieceRows * kRowBytes);
    const char* from = static_cast<const char*>(corner) + (piece * kPieceRows + row) * stride * 2 + chunk * 16;
    const char* sources[kPiecePasses];
#pragma unroll
    for (int pass = 0; pass < kPiecePasses; pass++) sources[pass] = from + pass * kRowsPerPass * stride * 2;
#pragma unroll
    for (int pass = 0; pass < kPiecePasses; pass++) {
      ptx::cp_async_16(target + Layout::offset(pass * kRowsPerPass + row, chunk), sources[pass]);
    }
  }

  /// The tile touches an edge or its source is not aligned: chunk by chunk, with zeros beyond the edge.
  /// @param row0,col0 the tile's place in the matrix.
  static __device__ __noinline__ void copy_checked(std::uint32_t target, const MatrixSource& source, std::int64_t row0,
                                                   std::int64_t col0, int piece, int lane) {
    const int row = lane / kChunks, chunk = lane % kChunks;
    target += piece * (kPieceRows * kRowBytes);
    row0 += piece * kPieceRows + row;
    col0 += chunk * 8;
#pragma unroll 1
    for (int pass = 0; pass < kPiecePasses; pass++) {
      const std::int64_t matrix_row = row0 + pass * kRowsPerPass;
      const std::int64_t left = matrix_row < source.rows ? source.cols - col0 : 0;
      const int valid = left < 0 ? 0 : left > 8 ? 8 : static_cast<int>(left);  // elements of this chunk
      const char* from = static_cast<const char*>(source.data);
      if (valid > 0) from += (matrix_row * source.stride + col0) * 2;
      const std::uint32_t to = target + Layout::offset(pass * kRowsPerPass + row, chunk);
      if (source.access == Access::chunks) {
        ptx::cp_async_16_zero_fill(to, from, valid * 2);
      } else if (source.access == Access::pairs) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
          const int bytes = min(max(valid * 2 - i * 4, 0), 4);
          ptx::cp_async_4_zero_fill(to + i * 4, bytes > 0 ? from + i * 4 : from, bytes);
        }
      } else {
        std::uint32_t words[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
          const auto* elements = reinterpret_cast<const std::uint16_t*>(from) + i * 2;
          const std::uint32_t low = i * 2 < valid ? elements[0] : 0;
          const std::uint32_t high = i * 2 + 1 < valid ? elements[1] : 0;
          words[i] = low | high << 16;
        }
        ptx::store_shared_16(to, words[0], words[1], words[2], words[3]);
      }
    }
  }
};

}  // namespace triage::sm80
