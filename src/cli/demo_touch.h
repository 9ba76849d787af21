// How a client of the demo touches memory that can be lost: a SIGBUS that says what refault.h
// promises, about the page that is being touched, is an answer; every other signal of its memory is
// counted as unexplained and ends the process. One thread of a process only.
#pragma once

#include "cli/demo_state.h"

namespace refault::cli {

// Before rf_connect, whose own handler hands on to these.
void catch_memory_signals(DemoClientState& state);

// Copies one record, one side of which is `page` of the pool. False: the page is lost or held back
// from this process, the SIGBUS said so, and the copy is not complete.
bool copy_record(void* to, const void* from, const void* page);

}  // namespace refault::cli
