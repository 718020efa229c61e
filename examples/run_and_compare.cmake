# cmake -DPROGRAM=... -DEXPECTED=... -P run_and_compare.cmake: runs the program and fails unless it succeeds and prints
# the text of the file, but for blanks at the ends of lines.
execute_process(COMMAND ${PROGRAM} OUTPUT_VARIABLE actual ERROR_VARIABLE errors RESULT_VARIABLE status)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "${PROGRAM} ended with ${status}:\n${actual}${errors}")
endif()
if(NOT EXISTS ${EXPECTED})
  message(FATAL_ERROR "${EXPECTED} is missing; if this is right, write it there:\n${actual}")
endif()
file(READ ${EXPECTED} expected)
string(REGEX REPLACE " +\n" "\n" actual "${actual}")
if(NOT actual STREQUAL expected)
  message(FATAL_ERROR "${PROGRAM} printed\n${actual}\ninstead of, in ${EXPECTED},\n${expected}")
endif()
