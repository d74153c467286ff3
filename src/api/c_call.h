// What every function of the C ABI goes through: pointers are checked, exceptions become a status and a sentence.
#pragma once

#include <cstdio>
#include <new>
#include <string>

#include "triage/c_api.h"
#include "triage/triage.h"

struct triage_pattern {
  triage::BlockPattern pattern;
};

struct triage_attention_pattern {
  triage::AttentionPattern pattern;
};

namespace triage::c_call {

// Sentences are kept in place, so that reporting that memory ran out needs none.
inline thread_local char last_error[4096] = "";

inline triage_status fail(triage_status status, const char* sentence) {
  std::snprintf(last_error, sizeof(last_error), "%s", sentence);
  return status;
}

template <typename Call>
triage_status guarded(const Call& call) noexcept {
  try {
    call();
    return TRIAGE_OK;
  } catch (const Error& error) {
    return fail(static_cast<triage_status>(error.code()), error.what());
  } catch (const std::bad_alloc&) {
    return fail(TRIAGE_OUT_OF_MEMORY, "host memory ran out");
  } catch (const std::exception& error) {
    return fail(TRIAGE_INTERNAL_ERROR, error.what());
  } catch (...) {
    return fail(TRIAGE_INTERNAL_ERROR, "an exception of unknown type");
  }
}

template <typename T>
T& require(T* pointer, const char* name) {
  if (pointer == nullptr) throw Error(ErrorCode::invalid_argument, std::string(name) + " is NULL");
  return *pointer;
}

inline Workspace from_c(const triage_workspace* workspace) {
  return workspace == nullptr ? Workspace{} : Workspace{workspace->data, workspace->bytes};
}

}  // namespace triage::c_call
