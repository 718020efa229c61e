#include "bench/child.hpp"

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string_view>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

extern char** environ;  // NOLINT(readability-redundant-declaration): POSIX leaves the declaration to the program

namespace armagrad::bench {
namespace {

std::runtime_error system_error(const std::string& what) {
  return std::runtime_error(fmt::format("{}: {}", what, std::generic_category().message(errno)));
}

// This program's environment with these variables in place of its own.
std::vector<std::string> merged(const std::map<std::string, std::string>& changes) {
  std::vector<std::string> all;
  for (char** e = environ; *e != nullptr; ++e) {
    const std::string entry = *e;
    if (changes.count(entry.substr(0, entry.find('='))) == 0) all.push_back(entry);
  }
  for (const auto& [name, value] : changes) all.push_back(name + "=" + value);
  return all;
}

std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> out;
  for (auto& s : strings) out.push_back(s.data());
  out.push_back(nullptr);
  return out;
}

}  // namespace

std::vector<int> allowed_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> cpus;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return cpus;
  for (int i = 0; i < CPU_SETSIZE; ++i)
    if (CPU_ISSET(i, &set)) cpus.push_back(i);
  return cpus;
}

Child::Child(const std::vector<std::string>& command, const std::map<std::string, std::string>& environment,
             const std::vector<int>& cpus, std::string log)
    : name_(command.front()), log_(std::move(log)) {
  auto words = command;
  auto variables = merged(environment);
  const auto argv = pointers(words), envp = pointers(variables);
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const int cpu : cpus) CPU_SET(cpu, &set);

  int requests[2], answers[2];
  if (pipe2(requests, O_CLOEXEC) != 0 || pipe2(answers, O_CLOEXEC) != 0) throw system_error("no pipe");
  const int errors = open(log_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (errors < 0) throw system_error(log_);
  const pid_t parent = getpid();
  process_ = fork();
  if (process_ < 0) throw system_error("no process");
  if (process_ == 0) {  // only what is safe between fork and exec
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(127);
    dup2(requests[0], 0);
    dup2(answers[1], 1);
    dup2(errors, 2);
    sched_setaffinity(0, sizeof set, &set);
    execvpe(argv[0], argv.data(), envp.data());
    constexpr std::string_view why = "there is no such program; was it built, or was a Python with the peers given?";
    [[maybe_unused]] const auto written = ::write(2, why.data(), why.size());  // goes to the log, which `fail` quotes
    _exit(127);
  }
  close(requests[0]);
  close(answers[1]);
  close(errors);
  to_ = requests[1];
  from_ = answers[0];
}

Child::Child(Child&& other) noexcept
    : name_(std::move(other.name_)),
      log_(std::move(other.log_)),
      unread_(std::move(other.unread_)),
      process_(std::exchange(other.process_, -1)),
      to_(std::exchange(other.to_, -1)),
      from_(std::exchange(other.from_, -1)) {}

Child::~Child() {
  if (process_ < 0) return;
  close(to_);
  close(from_);
  kill(process_, SIGKILL);
  while (waitpid(process_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

void Child::fail(const std::string& what) const {
  std::ifstream file(log_);
  std::string words{std::istreambuf_iterator<char>(file), {}};
  while (!words.empty() && words.back() == '\n') words.pop_back();
  if (words.size() > 500) words = "..." + words.substr(words.size() - 500);
  throw std::runtime_error(words.empty() ? what : what + ": " + words);
}

nlohmann::json Child::ask(const std::string& request, double seconds) {
  kill(process_, SIGCONT);
  const std::string line = request + '\n';
  if (write(to_, line.data(), line.size()) != static_cast<ssize_t>(line.size()) && errno != EPIPE)
    throw system_error(name_);
  while (unread_.find('\n') == std::string::npos) {
    pollfd wait{from_, POLLIN, 0};
    const int ready = poll(&wait, 1, static_cast<int>(seconds * 1000));
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) fail(fmt::format("{} did not answer '{}' within {} s", name_, request, seconds));
    char buffer[4096];
    const ssize_t n = read(from_, buffer, sizeof buffer);
    if (n <= 0) fail(fmt::format("{} ended instead of answering '{}'", name_, request));
    unread_.append(buffer, static_cast<std::size_t>(n));
  }
  kill(process_, SIGSTOP);
  const auto end = unread_.find('\n');
  const auto answer = nlohmann::json::parse(unread_.substr(0, end));
  unread_.erase(0, end + 1);
  if (answer.contains("error")) throw std::runtime_error(answer["error"].get<std::string>());
  return answer;
}

}  // namespace armagrad::bench
