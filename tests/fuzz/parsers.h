// What the fuzzers and the mutation test do with arbitrary bytes: parse them, and if the parser accepts them, check
// what it promises. A triage::Error is a fine answer; any other exception, and any broken promise, ends the program.
#pragma once

#include <cstdint>
#include <string_view>

namespace triage::fuzz {

/// What became of the bytes.
enum class Answer { accepted, refused };

/// A whole safetensors file: header and data.
Answer parse_safetensors_file(std::string_view bytes);

/// An index of a sharded model.
Answer parse_index_file(std::string_view bytes);

/// A file with block-sparse matrices: layout, index arrays and values, through the public API.
Answer parse_block_sparse_file(std::string_view bytes);

/// Small valid inputs to mutate, one per parser.
std::string_view safetensors_seed();
std::string_view index_seed();
std::string_view block_sparse_seed();

}  // namespace triage::fuzz
