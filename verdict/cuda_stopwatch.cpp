#if TRIAGE_HAS_CUDA

#include "verdict/cuda_stopwatch.h"

#include <algorithm>

#include "device/cuda_check.h"
#include "verdict/dynamic_library.h"

namespace triage::verdict {
namespace {

// nvml.h: nvmlClocksEventReasons. Idle and "applications clocks" are no throttling.
constexpr std::pair<unsigned long long, const char*> kReasons[] = {
    {0x04, "the power cap"},          {0x08, "a hardware slowdown"}, {0x20, "heat (software limit)"},
    {0x40, "heat (hardware limit)"}, {0x80, "the power brake"},
};

cudaStream_t cuda_stream(Stream stream) { return static_cast<cudaStream_t>(stream); }
cudaEvent_t event(void* pointer) { return static_cast<cudaEvent_t>(pointer); }

}  // namespace

struct ClockWatch::Nvml {
  DynamicLibrary library = DynamicLibrary::open_first({"libnvidia-ml.so.1"});
  int (*init)() = library.function<int()>("nvmlInit_v2");
  int (*shutdown)() = library.function<int()>("nvmlShutdown");
  int (*driver)(char*, unsigned) = library.function<int(char*, unsigned)>("nvmlSystemGetDriverVersion");
  int (*by_bus)(const char*, void**) = library.function<int(const char*, void**)>("nvmlDeviceGetHandleByPciBusId_v2");
  int (*reasons)(void*, unsigned long long*) =
      library.function<int(void*, unsigned long long*)>("nvmlDeviceGetCurrentClocksThrottleReasons");
  void* device = nullptr;
  bool ready = false;
};

ClockWatch::ClockWatch(int ordinal) : nvml_(std::make_unique<Nvml>()) {
  if (!nvml_->init || !nvml_->shutdown || nvml_->init() != 0) return;
  nvml_->ready = true;
  char bus[32] = "";
  if (nvml_->by_bus && cudaDeviceGetPCIBusId(bus, sizeof bus, ordinal) == cudaSuccess) {
    nvml_->by_bus(bus, &nvml_->device);
  }
}

ClockWatch::~ClockWatch() {
  if (nvml_->ready) nvml_->shutdown();
}

std::string ClockWatch::driver_version() const {
  char text[96] = "";
  return nvml_->ready && nvml_->driver && nvml_->driver(text, sizeof text) == 0 ? text : "";
}

void ClockWatch::look() {
  unsigned long long now = 0;
  if (nvml_->device && nvml_->reasons && nvml_->reasons(nvml_->device, &now) == 0) seen_ |= now;
}

std::string ClockWatch::take_note() {
  std::string text;
  for (const auto& [bit, name] : kReasons) {
    if (seen_ & bit) text += (text.empty() ? "clocks were held down by " : " and ") + std::string(name);
  }
  seen_ = 0;
  return text;
}

struct CudaStopwatch::Entry {
  const Contender* contender = nullptr;
  int calls = 1;
  cudaGraphExec_t graph = nullptr;
  ~Entry() {
    if (graph) cudaGraphExecDestroy(graph);
  }
};

CudaStopwatch::CudaStopwatch(Stream stream, ClockWatch* clocks) : stream_(stream), clocks_(clocks) {
  cudaEvent_t events[2];
  for (cudaEvent_t& created : events) cuda_check(cudaEventCreate(&created), "cudaEventCreate");
  begin_ = events[0];
  end_ = events[1];
}

CudaStopwatch::~CudaStopwatch() {
  cudaEventDestroy(event(begin_));
  cudaEventDestroy(event(end_));
}

double CudaStopwatch::timed(const Contender& contender, int calls) {
  cuda_check(cudaEventRecord(event(begin_), cuda_stream(stream_)), "cudaEventRecord");
  for (int call = 0; call < calls; ++call) contender.run(call);
  cuda_check(cudaEventRecord(event(end_), cuda_stream(stream_)), "cudaEventRecord");
  cuda_check(cudaEventSynchronize(event(end_)), contender.name.c_str());
  float ms = 0;
  cuda_check(cudaEventElapsedTime(&ms, event(begin_), event(end_)), "cudaEventElapsedTime");
  return ms;
}

double CudaStopwatch::rough_ms(const Contender& contender) {
  timed(contender, 1);  // loads code, tunes, allocates
  const double once = timed(contender, 1);
  if (once > 5) return once;
  return timed(contender, 4) / 4;
}

void CudaStopwatch::prepare(const Contender& contender, int calls) {
  auto entry = std::make_unique<Entry>();
  entry->contender = &contender;
  entry->calls = calls;
  if (calls > 1) {
    cuda_check(cudaStreamBeginCapture(cuda_stream(stream_), cudaStreamCaptureModeRelaxed), "cudaStreamBeginCapture");
    bool captured = true;
    try {
      for (int call = 0; call < calls; ++call) contender.run(call);
    } catch (const std::exception&) {
      captured = false;  // it ran outside of a capture: timed call by call instead
    }
    cudaGraph_t graph = nullptr;
    if (cudaStreamEndCapture(cuda_stream(stream_), &graph) != cudaSuccess) captured = false;
    if (captured && cudaGraphInstantiateWithFlags(&entry->graph, graph, 0) != cudaSuccess) entry->graph = nullptr;
    if (graph) cudaGraphDestroy(graph);
    cudaGetLastError();  // what a failed capture has left
    if (entry->graph) {
      cuda_check(cudaGraphLaunch(entry->graph, cuda_stream(stream_)), "cudaGraphLaunch");  // the first one uploads it
      cuda_check(cudaStreamSynchronize(cuda_stream(stream_)), contender.name.c_str());
    } else {
      not_captured_.push_back(contender.name);
    }
  }
  entries_.push_back(std::move(entry));
}

double CudaStopwatch::sample_ms(int index) {
  const Entry& entry = *entries_[static_cast<std::size_t>(index)];
  if (++samples_ % 16 == 0 && clocks_) clocks_->look();
  if (!entry.graph) return timed(*entry.contender, entry.calls);
  cuda_check(cudaEventRecord(event(begin_), cuda_stream(stream_)), "cudaEventRecord");
  cuda_check(cudaGraphLaunch(entry.graph, cuda_stream(stream_)), "cudaGraphLaunch");
  cuda_check(cudaEventRecord(event(end_), cuda_stream(stream_)), "cudaEventRecord");
  cuda_check(cudaEventSynchronize(event(end_)), entry.contender->name.c_str());
  float ms = 0;
  cuda_check(cudaEventElapsedTime(&ms, event(begin_), event(end_)), "cudaEventElapsedTime");
  return ms;
}

}  // namespace triage::verdict

#endif  // TRIAGE_HAS_CUDA
