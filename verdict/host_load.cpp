#include "verdict/host_load.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <string>

namespace triage::verdict {
namespace {

double seconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
}

}  // namespace

HostLoad::Reading HostLoad::read() {
  Reading reading;
  std::ifstream file("/proc/stat");
  std::string label;
  double user = 0, nice = 0, system = 0, idle = 0, iowait = 0, irq = 0, softirq = 0, steal = 0;
  if (!(file >> label >> user >> nice >> system >> idle >> iowait >> irq >> softirq >> steal) || label != "cpu") {
    return reading;
  }
  rusage usage{};
  if (::getrusage(RUSAGE_SELF, &usage) != 0) return reading;
  reading.wall = std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  reading.all_busy = (user + nice + system + irq + softirq + steal) / static_cast<double>(::sysconf(_SC_CLK_TCK));
  reading.mine = seconds(usage.ru_utime) + seconds(usage.ru_stime);
  reading.known = true;
  return reading;
}

HostLoad::HostLoad() : start_(read()) {}

double HostLoad::other_cores() const {
  const Reading now = read();
  const double wall = now.wall - start_.wall;
  if (!now.known || !start_.known || wall <= 0) return 0;
  return std::max(0.0, ((now.all_busy - start_.all_busy) - (now.mine - start_.mine)) / wall);
}

bool HostLoad::disturbs(int threads) const {
  const double cores = static_cast<double>(::sysconf(_SC_NPROCESSORS_ONLN));
  return cores - other_cores() < 0.75 * std::min(static_cast<double>(threads), cores);
}

}  // namespace triage::verdict
