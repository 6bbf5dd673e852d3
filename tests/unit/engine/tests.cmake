foreach(name aborts config engine iopub lifeline output pulse reply shell
        signals)
  rh_unit_test(engine ${name} base wire net)
endforeach()
