"""The hand: MANO's file and layer, manopth, pickles, joint orders; and the stand-in hand that may be given away."""
