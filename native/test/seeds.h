#pragma once

#include <cstdlib>

namespace fake {

/** Which lives a model test runs: SEED=n that one alone, LIVES=n so many from it on; TRACE=1 tells what happens in them. */
struct Seeds {
  explicit Seeds(unsigned usually)
      : first(fromEnvironment("SEED", 0)),
        count(fromEnvironment("LIVES", std::getenv("SEED") == nullptr ? usually : 1)) {}

  const unsigned first;
  const unsigned count;

 private:
  static unsigned fromEnvironment(const char* name, unsigned otherwise) {
    const char* text = std::getenv(name);
    return text == nullptr ? otherwise : static_cast<unsigned>(std::atoi(text));
  }
};

}  // namespace fake
