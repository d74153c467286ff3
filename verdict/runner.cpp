#include "verdict/runner.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace triage::verdict {

Runner::Runner(Environment environment, double timeout_seconds, std::function<void()> tick)
    : environment_(std::move(environment)), timeout_seconds_(timeout_seconds), tick_(std::move(tick)) {}

Runner::~Runner() = default;

Answer Runner::run(const Job& job) {
  if (!worker_) {
    std::vector<std::string> command = worker_program(job.user);
    command.push_back(kWorkerCommand);
    worker_ = std::make_unique<ChildProcess>(command, environment_);
  }

  const auto give_up = [&](Outcome outcome, std::string failure) {
    const std::string end = worker_->finish();
    if (outcome == Outcome::crashed && failure.empty()) failure = fmt::format("the worker process ended: {}", end);
    const std::string words = worker_->last_words();
    if (!words.empty()) failure += fmt::format("; it had said: {}", words);
    worker_.reset();
    return Answer{outcome, failure, nullptr, ""};
  };

  std::string line;
  const bool sent = worker_->write_line(to_json(job).dump());
  const ChildProcess::Read read =
      sent ? worker_->read_line(line, timeout_seconds_, tick_) : ChildProcess::Read::closed;
  if (read == ChildProcess::Read::timeout) {
    return give_up(Outcome::hung, fmt::format("no answer within {:g} s (--timeout); it was stopped", timeout_seconds_));
  }
  if (read == ChildProcess::Read::closed) return give_up(Outcome::crashed, "");

  const Json answer = Json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (answer.is_discarded() || !answer.is_object()) {
    return give_up(Outcome::crashed, "the worker process answered something that is not JSON");
  }
  if (answer.contains("error")) {
    const std::string sentence = answer.at("error").get<std::string>();
    if (answer.value("sticky", false)) return give_up(Outcome::crashed, sentence);
    return {Outcome::crashed, sentence, nullptr, ""};
  }
  if (answer.contains("refused")) return {Outcome::ok, "", nullptr, answer.at("refused").get<std::string>()};
  return {Outcome::ok, "", answer.at("result"), ""};
}

}  // namespace triage::verdict
